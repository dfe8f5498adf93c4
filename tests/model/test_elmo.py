import json
from pathlib import Path

import numpy as np
import pytest
import torch

from groundcli.errors import GroundcliError
from groundcli.model.elmo import Elmo, ElmoConfig, character_ids
from groundcli.weights.elmo_files import load_elmo, save_elmo

TINY = ElmoConfig(filters=((1, 4), (2, 8)), character_dim=4, highways=2, activation="relu", hidden=16, projection=8)


def batches(folder: Path) -> list[list[list[str]]]:
    return json.loads((folder / "oracle_sentences.json").read_text("utf-8"))["batches"]


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


def test_files_round_trip(tmp_path: Path) -> None:
    elmo = Elmo(TINY)
    save_elmo(elmo, tmp_path)
    again = load_elmo(tmp_path)
    assert again.config == TINY
    assert all(torch.equal(a, b) for a, b in zip(elmo.state_dict().values(), again.state_dict().values(), strict=True))


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    save_elmo(Elmo(TINY), tmp_path)
    options = json.loads((tmp_path / "options.json").read_text())
    options["lstm"]["dim"] = 32
    (tmp_path / "options.json").write_text(json.dumps(options))
    with pytest.raises(GroundcliError, match=r"lm_weights.hdf5: RNN_0.*LSTMCell/W_0 has shape"):
        load_elmo(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"lstm": 1}'])
def test_options_of_something_else_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "options.json").write_text(content)
    with pytest.raises(GroundcliError, match=r"options.json: not the options of an ELMo"):
        load_elmo(tmp_path)
