from pathlib import Path

import pytest

from groundcli.errors import GroundcliError, UsageError
from groundcli.training.sources import Source, evaluation_splits, load
from tests.data import published
from tests.shapes import write_flickr30k, write_shapes


def test_data_sets_and_folders_at_once(tmp_path: Path) -> None:
    write_flickr30k(tmp_path / "flickr30k", {"train": 6, "val": 2})
    write_shapes(tmp_path / "shapes")
    (tmp_path / "shapes/red_circle_0.txt").unlink()
    told: list[str] = []
    sources = [Source("flickr30k", tmp_path / "flickr30k"), Source("folder", tmp_path / "shapes", 0.5)]
    data = load(sources, "train", told.append, limit=5, aside=0)
    assert [sample.name.partition("/")[0] for sample in data.samples[:5]] == ["Flickr30k_Images"] * 5
    assert data.weights == [1.0] * 5 + [0.5] * 5
    assert len(data.validation) == 2 + 7  # the split, and a part of the folder
    assert not {s.image for s in data.samples} & {s.image for s in data.validation}
    assert data.source == "flickr30k, train split: 5 images; a folder: 5 images, weight 0.5"
    (line,) = told
    assert line.startswith("skipped red_circle_0.png: ")
    assert not load(sources[1:], "train", told.append).validation


def test_a_split_of_another_name(tmp_path: Path) -> None:
    published.visual_genome(tmp_path)
    everything = load([Source("visual_genome", tmp_path)], "all", print, validate=False)
    assert [sample.name for sample in everything.samples] == ["VG_100K_2/1.jpg", "VG_100K/2.jpg"]
    assert everything.validation == []
    with pytest.raises(GroundcliError, match=r"the splits all, one; .*--set training.validate_every=0"):
        load([Source("visual_genome", tmp_path)], "all", print)


@pytest.mark.parametrize("split", ["train", "trainval"])
def test_train_and_val_of_coco_together(tmp_path: Path, split: str) -> None:
    published.coco(tmp_path, "train2017", 1)
    published.coco(tmp_path, "val2017", 2)
    data = load([Source("coco", tmp_path)], split, print)
    assert len(data.samples) == (2 if split == "trainval" else 1)
    assert [sample.image.stem for sample in data.validation] == ["000000000002"]
    with pytest.raises(UsageError, match="COCO has train, val and trainval"):
        load([Source("coco", tmp_path)], "all", print)


def test_evaluation_splits_are_those_that_are_there(tmp_path: Path) -> None:
    write_flickr30k(tmp_path / "flickr30k", {"train": 2, "test": 3})
    published.coco(tmp_path, "val2017", 2)
    found = evaluation_splits(Source("flickr30k", tmp_path / "flickr30k"))
    assert {split: len(samples) for split, samples in found.items()} == {"flickr30k test": 3}
    assert evaluation_splits(Source("coco", tmp_path)).keys() == {"coco val"}
    assert evaluation_splits(Source("folder", tmp_path)) == {}
