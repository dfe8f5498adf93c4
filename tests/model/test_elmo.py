import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from groundcli.model.elmo import BiLstmLayer, Elmo, character_ids
from groundcli.recipe import ElmoConfig
from groundcli.weights.elmo import load_elmo

TINY = ElmoConfig(filters=((1, 4), (2, 8)), character_dim=4, highways=2, activation="relu", hidden=16, projection=8)


def batches(folder: Path) -> list[list[list[str]]]:
    return json.loads((folder / "oracle_sentences.json").read_text("utf-8"))["batches"]


@pytest.mark.slow
def test_equals_allennlp(oracles: Path) -> None:
    folder = oracles / "elmo"
    elmo, expected = load_elmo(folder), np.load(folder / "oracle.npz")
    for i, captions in enumerate(batches(folder)):
        assert np.array_equal(
            [character_ids(w) for c in captions for w in c], expected[f"b{i}_ids"][expected[f"b{i}_elmo_mask"]]
        )
        with torch.no_grad():
            layers, mask = elmo.layers(captions)
            words, _ = elmo(captions)
        assert np.array_equal(mask, expected[f"b{i}_mask"])
        for k, layer in enumerate(layers):
            np.testing.assert_allclose(layer, expected[f"b{i}_layer{k}"], atol=1e-5)
        mixed = torch.stack(words).mean(0)
        np.testing.assert_allclose(mixed, expected[f"b{i}_elmo"][expected[f"b{i}_elmo_mask"]], atol=1e-5)


def test_a_second_call_gives_the_same() -> None:
    elmo = Elmo(TINY)
    captions = [["a", "dog"], ["two", "brown", "dogs"]]
    with torch.no_grad():
        for first, second in zip(elmo(captions)[0], elmo(captions)[0], strict=True):
            assert torch.equal(first, second)


def test_a_caption_does_not_depend_on_its_batch() -> None:
    elmo = Elmo(TINY)
    with torch.no_grad():
        words, sentences = elmo([["a", "dog"]])
        others, other_sentences = elmo([["two", "brown", "dogs", "run"], ["a", "dog"]])
    for layer, other in zip(words + sentences, [w[4:] for w in others] + [z[1:] for z in other_sentences], strict=True):
        torch.testing.assert_close(layer, other)


def test_a_sentence_is_both_ends() -> None:
    elmo = Elmo(TINY)
    with torch.no_grad():
        words, sentences = elmo([["two", "brown", "dogs"]])
    for layer, sentence in zip(words[1:], sentences, strict=True):
        torch.testing.assert_close(sentence[0, :8], layer[0, 8:])  # backward at the first word
        torch.testing.assert_close(sentence[0, 8:], layer[2, :8])  # forward at the last word


def test_words_out_of_context_are_the_first_layer() -> None:
    elmo = Elmo(TINY)
    with torch.no_grad():
        words, _ = elmo([["two", "brown", "dogs"], ["a" * 60]])
        vectors = elmo.word_vectors(["two", "brown", "dogs", "a" * 60])
        torch.testing.assert_close(words[0], torch.cat([vectors, vectors], -1))
        torch.testing.assert_close(vectors[1:2], elmo.word_vectors(["brown"]))


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    layer = BiLstmLayer(replace(TINY, hidden=6, projection=3, clip=0.3)).double()
    torch.nn.init.normal_(layer.projection)
    x = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def outputs(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, [3, 2, 2, 1]))

    clipped = outputs(x, *layer.parameters()).abs() == layer.clip
    assert clipped.any()
    assert not clipped.all()
    assert torch.autograd.gradcheck(outputs, (x, *layer.parameters()))
