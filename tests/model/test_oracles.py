"""Attention, loss, gradients and mappings against the authors' own code (TensorFlow 1.14)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from groundcli.model.attention import attend, best_level
from groundcli.model.text import TextMapping
from groundcli.model.visual import VisualMapping
from groundcli.recipe import LossConfig, VisualConfig
from tests.model import grounding_loss

CASES = ["small", "paper"]
TOLERANCE = {"atol": 1e-5, "rtol": 0}


class Oracle:
    """Arrays of one case."""

    def __init__(self, oracles: Path, case: str):
        self._arrays, self._case = np.load(oracles / "authors.npz"), case

    def __call__(self, name: str) -> Tensor:
        return torch.from_numpy(self._arrays[f"{self._case}/{name}"])


@pytest.fixture(params=CASES)
def oracle(oracles: Path, request: pytest.FixtureRequest) -> Oracle:
    return Oracle(oracles, request.param)


def test_word_attention(oracle: Oracle) -> None:
    v = oracle("v").transpose(1, 2)  # (B, L, N, D)
    heat, level_scores = attend(v, oracle("e_w").unsqueeze(1))
    best_heat, score, level = best_level(heat, level_scores)
    level_heat = oracle("att/level_heatmap_word").flatten(2, 3).transpose(2, 3)  # (B, T, L, N)
    torch.testing.assert_close(heat, level_heat, **TOLERANCE)
    torch.testing.assert_close(level_scores, oracle("att/level_score_word"), **TOLERANCE)
    torch.testing.assert_close(best_heat, oracle("att/heatmap_word").flatten(2), **TOLERANCE)
    torch.testing.assert_close(score, oracle("att/score_word"), **TOLERANCE)
    assert torch.equal(level, oracle("att/level_index_word"))


def test_sentence_attention(oracle: Oracle) -> None:
    v = oracle("v").transpose(1, 2)
    heat, level_scores = attend(v, oracle("e_s")[:, None, None])
    best_heat, score, level = best_level(heat, level_scores)
    level_heat = oracle("att/level_heatmap_sentence").flatten(1, 2).transpose(1, 2)  # (B, L, N)
    torch.testing.assert_close(heat[:, 0], level_heat, **TOLERANCE)
    torch.testing.assert_close(level_scores[:, 0], oracle("att/level_score_sentence"), **TOLERANCE)
    torch.testing.assert_close(best_heat[:, 0], oracle("att/heatmap_sentence").flatten(1), **TOLERANCE)
    torch.testing.assert_close(score[:, 0], oracle("att/score_sentence"), **TOLERANCE)
    assert torch.equal(level[:, 0], oracle("att/level_index_sentence"))


def test_loss_and_its_gradients(oracle: Oracle) -> None:
    v = oracle("v").transpose(1, 2).requires_grad_()
    s, z = oracle("e_w").requires_grad_(), oracle("e_s").requires_grad_()
    captions, words, _ = s.shape
    index = torch.arange(captions * words).view(captions, words)
    mask = torch.ones_like(index, dtype=torch.bool)
    loss = grounding_loss(v, s.flatten(0, 1)[None], z[None], index, mask, LossConfig())
    loss.backward()
    torch.testing.assert_close(loss, oracle("loss"), **TOLERANCE)
    torch.testing.assert_close(v.grad, oracle("grad_v").transpose(1, 2), **TOLERANCE)
    torch.testing.assert_close(s.grad, oracle("grad_e_w"), **TOLERANCE)
    torch.testing.assert_close(z.grad, oracle("grad_e_s"), **TOLERANCE)


def legacy_resize(maps: Tensor, side: int) -> Tensor:
    """(B, C, H, H) -> (B, C, side, side) as TensorFlow 1 does it: cell 0 lies on cell 0, no half-cell offset."""
    position = torch.arange(side) * maps.shape[-1] / side
    low = position.long()
    high = (low + 1).clamp(max=maps.shape[-1] - 1)
    weight = position - low
    rows = maps[:, :, low] * (1 - weight)[:, None] + maps[:, :, high] * weight[:, None]
    return rows[..., low] * (1 - weight) + rows[..., high] * weight


def load_tensorflow(layers: nn.Sequential, oracle: Oracle, scope: str) -> None:
    weighted = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    for i, layer in enumerate(weighted):
        kind = "conv2d" if isinstance(layer, nn.Conv2d) else "dense"
        name = f"var/{scope}/{kind}{f'_{i}' if i else ''}"
        kernel = oracle(f"{name}/kernel:0")  # H, W, in, out, or in, out
        layer.weight.data = kernel.permute(*range(kernel.ndim - 1, kernel.ndim - 3, -1), *range(kernel.ndim - 2))
        layer.bias.data = oracle(f"{name}/bias:0")


def test_visual_mapping(oracles: Path) -> None:
    oracle = Oracle(oracles, "mapping")
    maps = [legacy_resize(oracle(f"in/{name}").permute(0, 3, 1, 2), 9) for name in "abc"]
    config = VisualConfig("", "", ("a", "b", "c"), image_size=0, grid=9, mapping=(32, 32, 24))
    mapping = VisualMapping([m.shape[1] for m in maps], config)
    for i, stack in enumerate(mapping.stacks, 1):
        assert isinstance(stack, nn.Sequential)
        load_tensorflow(stack, oracle, f"v{i}_postConv")
    torch.testing.assert_close(mapping(maps, 9).transpose(1, 2), oracle("v"), **TOLERANCE)


@pytest.mark.parametrize(
    ("given", "scope", "expected"), [("words", "word_level", "e_w"), ("sentence", "sentence_level", "e_s")]
)
def test_text_mapping(oracles: Path, given: str, scope: str, expected: str) -> None:
    oracle = Oracle(oracles, "mapping")
    # The authors' later code normalises after every layer: two mappings of one layer each.
    first, second = TextMapping([40], 40, [24], softmax=True), TextMapping([24], 24, [24], softmax=True)
    both = nn.Sequential(*first.layers, *second.layers)
    load_tensorflow(both, oracle, scope)
    out = second([first([oracle(f"in/{given}")])])
    torch.testing.assert_close(out, oracle(expected), **TOLERANCE)
