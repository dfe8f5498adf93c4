import math

import pytest
import torch
import torch.nn.functional as F

from groundcli.model.attention import attend
from groundcli.model.presence import LEAST, SCENE, Presence, measures, null_loss, pool, scene_loss

LEVELS, CELLS, WIDTH, WORDS = 2, 9, 8, 5


@pytest.fixture
def presence() -> Presence:
    torch.manual_seed(0)
    made = Presence(LEVELS, 1, WIDTH)
    made.usual.copy_(torch.tensor([[0.3, -1.0], [0.1, 0.5]]))
    made.pooled.copy_(torch.stack([torch.zeros(2 * LEVELS * WIDTH), torch.ones(2 * LEVELS * WIDTH)]))
    made.scenes.copy_(torch.cat([torch.zeros(1, SCENE), torch.eye(SCENE)]))
    return made


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    cells = torch.randn(LEVELS, CELLS, WIDTH, generator=draw)
    return cells, F.normalize(torch.randn(1, WORDS, WIDTH, generator=draw), dim=-1)


def test_deviations_from_what_a_word_has_where_it_is_absent(presence: Presence) -> None:
    cells, words = pair()
    heat, scores = attend(cells[None], words[None])
    heat, scores = heat[0].mean(1), scores[0].mean(-1)
    found = presence(cells, words, scores, heat.amax(-1))
    assert found.shape == (WORDS, 4)
    mean, deviation = presence.absent(words)
    assert (deviation > 0).all()
    torch.testing.assert_close(found[:, 0] * deviation[:, 0] + mean[:, 0], scores)
    torch.testing.assert_close(found[:, 1] * deviation[:, 1] + mean[:, 1], heat.amax(-1).clamp_min(LEAST).log())


def test_the_scene_in_deviations_over_photographs(presence: Presence) -> None:
    """What is said in closed form is what photographs show."""
    draw = torch.Generator().manual_seed(2)
    pooled = torch.randn(4000, 2 * LEVELS * WIDTH, generator=draw) * 2 + 1
    _, words = pair()
    with torch.no_grad():
        images = presence.image(pooled)
        presence.scenes.copy_(torch.cat([images.mean(0, keepdim=True), torch.cov(images.T)]))
        logits, deviations = presence.scene(pooled, words)
    torch.testing.assert_close(deviations, (logits - logits.mean(0)) / logits.std(0), atol=1e-3, rtol=1e-3)


def test_words_without_heat_have_finite_evidence(presence: Presence) -> None:
    cells, words = pair()
    assert presence(cells, words, torch.zeros(WORDS), torch.zeros(WORDS)).isfinite().all()


def test_measures_and_pooled_cells() -> None:
    found = measures(torch.tensor([0.7, 0.0]), torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(found, torch.tensor([[0.7, math.log(0.5)], [0.0, math.log(LEAST)]]))
    cells = torch.tensor([[[1.0, 2.0], [3.0, -2.0]]])
    assert pool(cells).tolist() == [2.0, 0.0, 3.0, 2.0]


def test_the_null_loss_is_least_at_the_true_mean_and_deviation(presence: Presence) -> None:
    _, words = pair()
    with torch.no_grad():
        mean, deviation = presence.absent(words)
        weight = torch.ones(WORDS)
        least = null_loss(presence, words, mean, deviation.square(), weight)
        for other_mean, other_deviation in ((mean + 0.2, deviation), (mean, 2 * deviation), (mean, deviation / 2)):
            there = null_loss(presence, words, other_mean, other_deviation.square(), weight)
            # At fixed predictions it is a likelihood of other data: compare with predictions that fit those.
            entropy = (other_deviation.log() + 0.5).sum(-1).mean()
            assert there > entropy
        assert least.item() == pytest.approx((deviation.log() + 0.5).sum(-1).mean().item(), abs=1e-5)


@pytest.mark.slow
def test_the_scene_learns_which_words_an_image_has(presence: Presence) -> None:
    draw = torch.Generator().manual_seed(3)
    _, words = pair()
    pooled = torch.randn(64, 2 * LEVELS * WIDTH, generator=draw)
    present = pooled[:, :WORDS] > 0.5
    optimizer = torch.optim.Adam(presence.parameters(), 1e-2)
    first = scene_loss(presence, pooled, words, present).item()
    for _ in range(100):
        optimizer.zero_grad()
        loss = scene_loss(presence, pooled, words, present)
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 3
