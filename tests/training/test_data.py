"""What is learned from: images of several sources, and which images and captions meet, how often."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from groundcli.data import Caption, Sample
from groundcli.errors import GroundcliError, UsageError
from groundcli.model.visual import Backbone
from groundcli.recipe import TrainingConfig, VisualConfig
from groundcli.training import LearningOptions, Source
from groundcli.training import data as training_data
from groundcli.training.data import (
    Pairs,
    check_images,
    check_leaks,
    evaluation_splits,
    hold_out,
    load,
    shared_images,
)
from groundcli.training.features import LiveFeatures, Preparation
from groundcli.training.gradient import Batch, Ranks
from tests.data import published
from tests.data.files import write
from tests.shapes import draw_shape, write_flickr30k, write_shapes

COUNT = 12


def options(*sources: Source, **more: Any) -> LearningOptions:
    names, roots, weights = zip(*sources, strict=True)
    return LearningOptions(dataset=names, data=roots, weight=weights, out=Path("out"), **more)


def test_skipped_images_are_listed_up_to_ten(tmp_path: Path) -> None:
    for text in [*write_shapes(tmp_path / "shapes", copies=4)][:14]:
        (tmp_path / "shapes" / text).with_suffix(".txt").unlink()
    told: list[str] = []
    load(options(Source("folder", tmp_path / "shapes")), told.append)
    assert [line.startswith("skipped ") for line in told] == [True] * 10 + [False]
    assert told[10] == "and 4 more skipped"


def test_data_sets_and_folders_at_once(tmp_path: Path) -> None:
    write_flickr30k(tmp_path / "flickr30k", {"train": 6, "val": 2})
    write_shapes(tmp_path / "shapes")
    (tmp_path / "shapes/red_circle_0.txt").unlink()
    told: list[str] = []
    sources = [Source("flickr30k", tmp_path / "flickr30k"), Source("folder", tmp_path / "shapes", 0.5)]
    data = load(options(*sources, limit=5), told.append, aside=0)
    assert [sample.name.partition("/")[0] for sample in data.samples[:5]] == ["Flickr30k_Images"] * 5
    assert data.weights == [1.0] * 5 + [0.5] * 5
    assert len(data.validation) == 2 + 7  # the split, and a part of the folder
    assert not {s.image for s in data.samples} & {s.image for s in data.validation}
    assert data.source == "flickr30k, train split: 5 images; a folder: 5 images, weight 0.5"
    (line,) = told
    assert line.startswith("skipped red_circle_0.png: ")
    assert not load(options(sources[1]), told.append).validation


def test_captions_of_a_folder_in_a_table_elsewhere(tmp_path: Path) -> None:
    for name in write_shapes(tmp_path / "shapes"):
        (tmp_path / "shapes" / name).with_suffix(".txt").unlink()
    (tmp_path / "table.csv").write_text("photo,said\nred_circle_0.png,a [red circle\ngone.png,nobody knows\n")
    told: list[str] = []
    table = {"captions": tmp_path / "table.csv", "image_column": "photo", "caption_column": "said"}
    data = load(options(Source("folder", tmp_path / "shapes"), **table), told.append)
    assert [(sample.name, sample.captions[0].text) for sample in data.samples] == [
        ("red_circle_0.png", "a [red circle")
    ]
    assert told[-2:] == [
        "gone.png: table.csv has captions for it, but there is no such image",
        "1 caption has a bracket that marks no phrase: red_circle_0.png: a [red circle",
    ]


def test_a_split_of_another_name(tmp_path: Path) -> None:
    published.visual_genome(tmp_path)
    everything = load(options(Source("visual_genome", tmp_path), split="all"), print, validate=False)
    assert [sample.name for sample in everything.samples] == ["VG_100K_2/1.jpg", "VG_100K/2.jpg"]
    assert everything.validation == []
    with pytest.raises(GroundcliError, match=r"the splits all, one; .*--set training.validate_every=0"):
        load(options(Source("visual_genome", tmp_path), split="all"), print)


@pytest.mark.parametrize("split", ["train", "trainval"])
def test_train_and_val_of_coco_together(tmp_path: Path, split: str) -> None:
    published.coco(tmp_path, "train2017", 1)
    published.coco(tmp_path, "val2017", 2)
    data = load(options(Source("coco", tmp_path), split=split), print)
    assert len(data.samples) == (2 if split == "trainval" else 1)
    assert [sample.image.stem for sample in data.validation] == ["000000000002"]
    with pytest.raises(UsageError, match="COCO has train, val and trainval"):
        load(options(Source("coco", tmp_path), split="all"), print)


def test_evaluation_splits_are_those_that_are_there(tmp_path: Path) -> None:
    write_flickr30k(tmp_path / "flickr30k", {"train": 2, "test": 3})
    published.coco(tmp_path, "val2017", 2)
    found = evaluation_splits(Source("flickr30k", tmp_path / "flickr30k"))
    assert {split: len(samples) for split, samples in found.items()} == {"flickr30k test": 3}
    assert evaluation_splits(Source("coco", tmp_path)).keys() == {"coco val"}


def test_what_is_evaluated_on_comes_with_the_data(tmp_path: Path) -> None:
    """Of data sets to learn from and of --evaluation; a folder of one's own has none."""
    write_flickr30k(tmp_path / "flickr30k", {"train": 2, "val": 2, "test": 3})
    write_shapes(tmp_path / "shapes", copies=1)

    def splits(*sources: Source, **more: Any) -> set[str]:
        return set(load(options(*sources, **more), print).evaluation)

    assert splits(Source("folder", tmp_path / "shapes")) == set()
    assert splits(Source("flickr30k", tmp_path / "flickr30k")) == {"flickr30k val", "flickr30k test"}
    named = (f"flickr30k={tmp_path / 'flickr30k'}",)
    assert splits(Source("folder", tmp_path / "shapes"), evaluation=named) == {"flickr30k val", "flickr30k test"}
    with pytest.raises(GroundcliError, match=rf"^--evaluation coco={tmp_path}: has neither a val nor a test split$"):
        splits(Source("folder", tmp_path / "shapes"), evaluation=(f"coco={tmp_path}",))


@pytest.mark.parametrize(("count", "kept"), [(4, 2), (16, 4), (40, 10), (300, 30)])
def test_a_part_is_kept_aside(count: int, kept: int) -> None:
    samples = [Sample(f"{i}", Path(f"{i}")) for i in range(count)]
    learning, aside = hold_out(samples, 0)
    assert len(aside) == kept
    assert sorted([*learning, *aside], key=samples.index) == samples
    assert hold_out(samples, 0) == (learning, aside)
    assert count < 16 or hold_out(samples, 1) != (learning, aside)


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
    return LiveFeatures(samples, Backbone(config), Preparation(32, 2))


def epoch(pairs: Pairs, number: int, size: int = 3, first: int = 0, mirror: bool = False) -> list[Batch]:
    return list(pairs.batches(TrainingConfig(batch_size=size, mirror=mirror), number, first, Ranks()))


def seen(batches: list[Batch]) -> Counter[str]:
    return Counter(name for batch in batches for name in batch.names)


@pytest.mark.slow
def test_every_image_once_with_any_of_its_captions(samples: list[Sample], features: LiveFeatures) -> None:
    pairs = Pairs(samples, [1.0] * COUNT, features)
    epochs = [epoch(pairs, number) for number in range(6)]
    assert all(seen(batches) == Counter(s.name for s in samples) for batches in epochs)
    assert len({tuple(name for batch in batches for name in batch.names) for batches in epochs}) == 6
    captions = {" ".join(words) for batches in epochs for batch in batches for words in batch.captions}
    assert {"a circle", "a red one"} <= captions


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_images_that_tell_left_from_right_are_not_mirrored(
    samples: list[Sample], features: LiveFeatures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pairs, read = Pairs(samples, [1.0] * COUNT, features), features.read
    mirrored: list[set[int]] = []
    monkeypatch.setattr(features, "read", lambda batches, some=(): mirrored.append(set(some)) or read(batches, some))
    for number in range(20):
        epoch(pairs, number, mirror=True)
    epoch(pairs, 0)
    assert set().union(*mirrored) == set(range(2, COUNT))  # every other one at some time, "bright" too
    assert 3 < sum(map(len, mirrored[:20])) / 20 < 7
    assert not mirrored[20]


# --- What can be known before the first step


def images(folder: Path, count: int) -> list[Sample]:
    folder.mkdir()
    for i in range(count):
        draw_shape("red", "circle", (10 * i, 5 * i)).save(folder / f"{folder.name}{i}.png")
    return [Sample(f.name, f, (Caption("a red circle"),)) for f in sorted(folder.iterdir())]


def test_it_says_what_it_found(tmp_path: Path) -> None:
    samples = images(tmp_path / "a", 5)
    samples[1].image.write_bytes(b"no picture")
    samples[3].image.unlink()
    assert list(check_images(samples)) == [
        "5 images to learn from, 5 captions",
        "1 images have no file and will be skipped: a3.png",
        "decoded 3 of 5 images tried, not a1.png, a3.png",
    ]


@pytest.mark.parametrize(
    ("count", "content", "message"),
    [
        (1, None, "1 images with captions: training tells pairs apart"),
        (3, b"no picture", "none of 3 images tried can be decoded: a0.png, a1.png, a2.png"),
        (3, b"", "a0.png: no such file, nor any other of the 3 images"),
    ],
)
def test_data_that_nothing_can_be_learned_from(tmp_path: Path, count: int, content: bytes, message: str) -> None:
    samples = images(tmp_path / "a", count)
    for sample in samples:
        if content:
            sample.image.write_bytes(content)
        elif content is not None:
            sample.image.unlink()
    with pytest.raises(GroundcliError, match=message):
        list(check_images(samples))


def test_images_of_an_evaluation_split_are_refused(tmp_path: Path) -> None:
    learning, evaluation = images(tmp_path / "a", 3), images(tmp_path / "b", 1)
    with pytest.raises(UsageError, match="1 images to learn from are also in flickr30k val: a0"):
        check_leaks(learning, {"flickr30k val": evaluation})  # the same picture under another name
    line = check_leaks(learning[1:], {"flickr30k val": evaluation})
    assert line == "no image to learn from is in flickr30k val (1 images)"
    assert "not compared with any evaluation images" in check_leaks(learning, {})


def files(root: Path, **contents: bytes | None) -> list[Sample]:
    """Samples of files by their stems; those of None don't exist."""
    write(root, {f"{name}.jpg": content for name, content in contents.items() if content is not None})
    return [Sample(f"{root.name}/{name}.jpg", root / f"{name}.jpg") for name in contents]


def test_by_name_and_by_content(tmp_path: Path) -> None:
    learning = files(tmp_path / "train", a=b"one", b=b"two", c=b"six", d=b"four")
    evaluation = files(tmp_path / "val", A=b"other", x=b"six", y=b"new", z=b"five")
    shared = [("train/a.jpg", "flickr30k val"), ("train/c.jpg", "flickr30k val")]
    assert shared_images(learning, {"flickr30k val": evaluation}) == shared
    assert shared_images(learning, {"flickr30k val": evaluation[:1]}) == shared[:1]  # by its name
    assert shared_images(learning, {"flickr30k val": evaluation[1:]}) == shared[1:]  # by its content


def test_every_split_is_named(tmp_path: Path) -> None:
    learning = files(tmp_path / "train", a=b"one")
    splits = {"val": files(tmp_path / "val", a=b"1"), "test": files(tmp_path / "test", b=b"one")}
    assert shared_images(learning, splits) == [("train/a.jpg", "val"), ("train/a.jpg", "test")]  # by name, by content


def test_coco_of_2014_and_2017(tmp_path: Path) -> None:
    learning = files(tmp_path / "train2014", COCO_train2014_000000000139=b"one")
    evaluation = files(tmp_path / "val2017", **{"000000000139": b"1"})
    shared = [("train2014/COCO_train2014_000000000139.jpg", "coco val")]
    assert shared_images(learning, {"coco val": evaluation}) == shared


def test_missing_files_share_nothing_but_names(tmp_path: Path) -> None:
    learning = files(tmp_path / "train", a=None, b=None)
    evaluation = files(tmp_path / "val", a=None, c=None)
    assert shared_images(learning, {"val": evaluation}) == [("train/a.jpg", "val")]


def test_only_files_of_equal_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(training_data, "_digest", lambda path: read.append(path.stem) or path.read_bytes().hex())
    learning = files(tmp_path / "train", a=b"1", b=b"22", c=b"33", d=b"333")
    evaluation = files(tmp_path / "val", x=b"44", y=b"4444")
    assert shared_images(learning, {"val": evaluation}) == []
    assert sorted(read) == ["b", "c", "x"]  # each once


def test_nothing_shared() -> None:
    assert shared_images([], {}) == []
