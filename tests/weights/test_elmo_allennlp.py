import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from groundcli.errors import GroundcliError
from groundcli.model.elmo import Elmo
from groundcli.recipe import ElmoConfig
from groundcli.weights.elmo import AllenNlpElmo, load_elmo, save_elmo

TINY = ElmoConfig(filters=((1, 4), (3, 8)), character_dim=4, highways=2, activation="relu", hidden=32, projection=8)
CAPTIONS = [
    ["dog"],
    ["two", "brown", "dogs", "run", "on", "the", "beach", "."],
    ["a", "w" * 60, "man"],
    ["两只", "Hündchen", "über", "🐕"],
    ["two", "brown", "dogs", "run", "on", "the", "beach", "."],
    ["a", "man"],
]
Pair = Callable[[float], tuple[Elmo, AllenNlpElmo]]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Ours and AllenNLP's, of the same random weights, large enough for a clip of 0.3 to matter."""
    pytest.importorskip("allennlp.modules.elmo")

    def make(clip: float) -> tuple[Elmo, AllenNlpElmo]:
        torch.manual_seed(0)
        elmo = Elmo(replace(TINY, clip=clip))
        for parameter in elmo.lstm.parameters():
            parameter.data *= 4
        save_elmo(elmo, tmp_path)
        return load_elmo(tmp_path), AllenNlpElmo(tmp_path)

    return make


@torch.no_grad()
def assert_equal(ours: Elmo, theirs: AllenNlpElmo, captions: list[list[str]]) -> list[Tensor]:
    """On the layers of words and of sentences, which it returns."""
    (words, sentences), (their_words, their_sentences) = ours(captions), theirs(captions)
    assert len(words) == len(their_words)
    for a, b in zip(words + sentences, their_words + their_sentences, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    return words + sentences


@pytest.mark.parametrize(("clip", "clipped"), [(3.0, False), (0.3, True)])
def test_random_weights_give_the_same(pair: Pair, clip: float, clipped: bool) -> None:
    ours, theirs = pair(clip)
    assert theirs.config == ours.config
    assert theirs.width == ours.width
    layers = assert_equal(ours, theirs, CAPTIONS)
    assert bool((layers[1].abs() == clip).any()) == clipped
    assert not (layers[1].abs() == clip).all()
    for again, before in zip(assert_equal(ours, theirs, CAPTIONS), layers, strict=True):
        assert torch.equal(again, before)
    for caption in CAPTIONS:
        assert_equal(ours, theirs, [caption])


def test_words_out_of_context_are_the_same(pair: Pair) -> None:
    ours, theirs = pair(3.0)
    words = [word for caption in CAPTIONS for word in caption]
    torch.testing.assert_close(ours.word_vectors(words), theirs.word_vectors(words), atol=1e-5, rtol=0)


def test_the_oracles_weights_give_the_same(oracles: Path) -> None:
    pytest.importorskip("allennlp.modules.elmo")
    theirs = AllenNlpElmo(oracles / "elmo")
    assert_equal(load_elmo(oracles / "elmo"), theirs, CAPTIONS)
    assert not any(parameter.requires_grad for parameter in theirs.parameters())


def gradients(theirs: AllenNlpElmo) -> dict[str, Tensor]:
    """Names of our weights -> gradients of AllenNLP's, in our layout."""
    found = {"character_cnn.projection.weight": theirs.bilm._token_embedder._projection.weight.grad}
    for i in range(theirs.config.layers):
        cells = [getattr(theirs.bilm._elmo_lstm, f"{way}_layer_{i}") for way in ("forward", "backward")]
        kernels = [torch.cat([x.input_linearity.weight.grad, x.state_linearity.weight.grad], 1) for x in cells]
        gates = [kernel.T.chunk(4, dim=1) for kernel in kernels]
        found[f"lstm.{i}.kernel"] = torch.stack([torch.cat([i, j, f, o], 1) for i, f, j, o in gates])
        found[f"lstm.{i}.projection"] = torch.stack([x.state_projection.weight.grad.T for x in cells])
    return found


@pytest.mark.parametrize("clip", [3.0, 0.3])
def test_gradients_are_the_same(pair: Pair, clip: float) -> None:
    ours, theirs = pair(clip)
    elmos: list[nn.Module] = [ours, theirs]
    for elmo in elmos:
        words, sentences = elmo.train().requires_grad_(True)(CAPTIONS)
        torch.stack([layer.sum() for layer in words + sentences]).sum().backward()
    for name, expected in gradients(theirs).items():
        found = ours.get_parameter(name).grad
        assert found is not None
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_without_allennlp_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_elmo(Elmo(TINY), tmp_path)
    for name in ("allennlp", "allennlp.modules", "allennlp.modules.elmo"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(GroundcliError, match=r"pip install 'groundcli\[allennlp\]' && pip install --no-deps allennlp"):
        AllenNlpElmo(tmp_path)
