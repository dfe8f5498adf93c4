import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from groundcli.model.attention import attend, pairwise_scores, word_contrast, word_pertinence
from groundcli.recipe import LossConfig
from tests.model import grounding_loss


def batch(
    seed: int = 0, images: int = 4, words: int = 3, levels: int = 2, cells: int = 9, width: int = 8
) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    v = F.normalize(torch.randn(images, levels, cells, width, generator=draw), dim=-1)
    s = F.normalize(torch.randn(images * words, width, generator=draw), dim=-1)
    z = F.normalize(torch.randn(images, width, generator=draw), dim=-1)
    index = torch.arange(images * words).view(images, words)
    return [v, s[None], z[None], index, torch.ones_like(index, dtype=torch.bool)]


@pytest.mark.parametrize("levels", ["max", "each"])
def test_padding_changes_nothing(levels: str) -> None:
    config = LossConfig(levels=levels)
    v, s, z, index, mask = batch()
    mask[1, 2] = mask[3, 1:] = False
    loss = grounding_loss(v, s, z, index, mask, config)
    longer = torch.cat([index, torch.zeros(4, 5, dtype=torch.long)], 1)
    padded = torch.cat([mask, torch.zeros(4, 5, dtype=torch.bool)], 1)
    longer[~padded] = 7  # whatever stands at padding
    assert torch.equal(grounding_loss(v, s, z, longer, padded, config), loss)


def test_pairwise_scores_are_attention_of_every_pair() -> None:
    v, s, *_ = batch()
    pairs = pairwise_scores(v, s)  # (B, U, L)
    for image in range(len(v)):
        _, level_scores = attend(v[image : image + 1], s[None])
        torch.testing.assert_close(pairs[image], level_scores[0])


def test_scores_equal_the_attended_feature() -> None:
    v, s, *_ = batch()
    heat, level_scores = attend(v, s.view(4, 1, 3, -1))
    attended = F.normalize(torch.einsum("btln,blnd->btld", heat, v), dim=-1)
    torch.testing.assert_close(level_scores, torch.einsum("btld,btd->btl", attended, s.view(4, 3, -1)))


def test_no_heat_scores_nothing_and_has_finite_gradients() -> None:
    v, s, z, index, mask = batch()
    v = (-v[:, :, :1] * 0 - s[0, 0]).expand(-1, -1, 9, -1).clone().requires_grad_()
    loss = grounding_loss(v, s, z, index, mask, LossConfig(levels="each", word_weight=1), torch.ones(4, 12) > 0)
    loss.backward()
    assert pairwise_scores(v, s)[0, 0].tolist() == [0, 0]
    assert torch.isfinite(v.grad).all()


def test_word_pertinence_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.1, 0.9]])
    mask = torch.tensor([[True, True, False]])
    expected = math.log(math.exp(5 * 0.5) + math.exp(5 * 0.1)) / 5
    assert word_pertinence(scores, mask, 5.0).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([[True], [False]], math.log(1 + math.exp(10 * (0.2 - 0.6)))),  # one image has the word, one lacks it
        ([[True], [True]], 0.0),  # no negatives
        ([[False], [False]], 0.0),  # a stop word
    ],
)
def test_word_contrast_by_hand(present: list[list[bool]], expected: float) -> None:
    scores = torch.tensor([[0.6], [0.2]])
    assert word_contrast(scores, torch.tensor(present), 10.0).item() == pytest.approx(expected, abs=1e-6)


def test_every_level_learns_under_each() -> None:
    v, s, z, index, mask = batch()
    v.requires_grad_()
    grounding_loss(v, s, z, index, mask, LossConfig(levels="each")).backward()
    assert (v.grad.abs().sum((0, 2, 3)) > 0).all()


def test_several_captions_of_an_image_are_averaged() -> None:
    """The loss of two captions per image is the mean of the two losses, where words have no contrast of their own."""
    v, s, z, index, mask = batch()
    _, s2, z2, *_ = batch(seed=5)
    config = LossConfig(levels="each")
    one, other = grounding_loss(v, s, z, index, mask, config), grounding_loss(v, s2, z2, index, mask, config)
    both = grounding_loss(
        v,
        torch.cat([s, s2], 1),
        torch.cat([z, z2], 1),
        torch.cat([index, index + s.shape[1]]),
        mask.repeat(2, 1),
        config,
    )
    torch.testing.assert_close(both, (one + other) / 2)
