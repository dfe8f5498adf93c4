"""Which images and captions meet, how often."""

from collections import Counter
from pathlib import Path

import pytest

from groundcli.data.sample import Caption, Sample
from groundcli.model.visual import Backbone
from groundcli.recipe import VisualConfig
from groundcli.training.features import LiveFeatures
from groundcli.training.pairs import Batch, Pairs
from groundcli.training.ranks import Ranks
from tests.shapes import draw_shape

COUNT = 12


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("images")
    for i in range(COUNT):
        draw_shape("red", "circle", (10 * i, 5 * i)).save(folder / f"{i}.png")
    sides = ("on the left", "at the right-hand side", "in bright light")
    captions = (Caption("a circle"), Caption("a red one"))
    return [
        Sample(f"{i}.png", folder / f"{i}.png", (*captions, *([Caption(f"a circle {sides[i]}")] if i < 3 else [])))
        for i in range(COUNT)
    ]


@pytest.fixture(scope="module")
def features(samples: list[Sample]) -> LiveFeatures:
    config = VisualConfig("tf_efficientnet_lite0", "", ("blocks.1", "blocks.2"), 32, 2, (8,))
    return LiveFeatures(samples, Backbone(config), 32)


def epoch(pairs: Pairs, number: int, size: int = 3, first: int = 0) -> list[Batch]:
    return list(pairs.batches(size, 0, number, first, Ranks()))


def seen(batches: list[Batch]) -> Counter[str]:
    return Counter(name for batch in batches for name in batch.names)


def test_every_image_once_with_any_of_its_captions(samples: list[Sample], features: LiveFeatures) -> None:
    pairs = Pairs(samples, [1.0] * COUNT, features)
    epochs = [epoch(pairs, number) for number in range(6)]
    assert all(seen(batches) == Counter(s.name for s in samples) for batches in epochs)
    assert len({tuple(name for batch in batches for name in batch.names) for batches in epochs}) == 6
    captions = {" ".join(words) for batches in epochs for batch in batches for words in batch.captions}
    assert {"a circle", "a red one"} <= captions


@pytest.mark.parametrize(("weight", "times"), [(2.0, {2}), (0.5, {0, 1}), (2.5, {2, 3})])
def test_weights_are_times_an_epoch(
    samples: list[Sample], features: LiveFeatures, weight: float, times: set[int]
) -> None:
    first, second = {s.name for s in samples[:8]}, {s.name for s in samples[8:]}
    pairs = Pairs(samples, [weight] * 8 + [1.0] * 4, features)
    assert pairs.drawn == 8 * weight + 4
    batches = epoch(pairs, 0, size=2)
    counts = seen(batches)
    assert {counts[name] for name in first} == times
    assert sum(counts[name] for name in first) == 8 * weight
    assert {counts[name] for name in second} == {1}
    assert any(first & set(batch.names) and second & set(batch.names) for batch in batches)  # sets are mixed


def test_an_epoch_goes_on_in_its_middle(samples: list[Sample], features: LiveFeatures) -> None:
    pairs = Pairs(samples, [2.0] * 8 + [1.0] * 4, features)
    whole, rest = epoch(pairs, 3), epoch(pairs, 3, first=2)
    assert [(b.names, b.captions) for b in whole[2:]] == [(b.names, b.captions) for b in rest]


def test_an_image_never_meets_itself(samples: list[Sample], features: LiveFeatures) -> None:
    batches = epoch(Pairs(samples, [3.0] * 2 + [1.0] * 10, features), 0, size=8)
    assert all(len(batch.names) == len(set(batch.names)) for batch in batches)
    assert min(len(batch.names) for batch in batches) < 8


def test_other_weights_are_other_data(samples: list[Sample], features: LiveFeatures) -> None:
    even, uneven = [Pairs(samples, [1.0] * 8 + [weight] * 4, features).digest for weight in (1.0, 2.0)]
    assert even != uneven


def test_images_that_tell_left_from_right_are_not_mirrored(
    samples: list[Sample], features: LiveFeatures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pairs, read = Pairs(samples, [1.0] * COUNT, features), features.read
    mirrored: list[set[int]] = []
    monkeypatch.setattr(features, "read", lambda batches, rows=(): mirrored.append(set(rows)) or read(batches, rows))
    for number in range(20):
        list(pairs.batches(3, 0, number, 0, Ranks(), mirror=True))
    epoch(pairs, 0)
    assert set().union(*mirrored) == set(range(2, COUNT))  # every other one at some time, "bright" too
    assert 3 < sum(map(len, mirrored[:20])) / 20 < 7
    assert not mirrored[20]
