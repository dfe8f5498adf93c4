from pathlib import Path

import pytest

from groundcli.data import leaks
from groundcli.data.leaks import Leak, shared_images
from groundcli.data.sample import Sample
from tests.data.files import write


def samples(root: Path, **files: bytes | None) -> list[Sample]:
    """Samples of files by their stems; those of None don't exist."""
    write(root, {f"{name}.jpg": content for name, content in files.items() if content is not None})
    return [Sample(f"{root.name}/{name}.jpg", root / f"{name}.jpg") for name in files]


def test_by_name_and_by_content(tmp_path: Path) -> None:
    learning = samples(tmp_path / "train", a=b"one", b=b"two", c=b"six", d=b"four")
    evaluation = samples(tmp_path / "val", A=b"other", x=b"six", y=b"new", z=b"five")
    assert shared_images(learning, {"flickr30k val": evaluation}) == [
        Leak("train/a.jpg", "flickr30k val", "val/A.jpg", "name"),
        Leak("train/c.jpg", "flickr30k val", "val/x.jpg", "content"),
    ]


def test_every_split_is_named(tmp_path: Path) -> None:
    learning = samples(tmp_path / "train", a=b"one")
    splits = {"val": samples(tmp_path / "val", a=b"1"), "test": samples(tmp_path / "test", b=b"one")}
    assert [(leak.split, leak.by) for leak in shared_images(learning, splits)] == [("val", "name"), ("test", "content")]


def test_coco_of_2014_and_2017(tmp_path: Path) -> None:
    learning = samples(tmp_path / "train2014", COCO_train2014_000000000139=b"one")
    evaluation = samples(tmp_path / "val2017", **{"000000000139": b"1"})
    assert [leak.by for leak in shared_images(learning, {"coco val": evaluation})] == ["name"]


def test_missing_files_share_nothing_but_names(tmp_path: Path) -> None:
    learning = samples(tmp_path / "train", a=None, b=None)
    evaluation = samples(tmp_path / "val", a=None, c=None)
    assert [leak.learned for leak in shared_images(learning, {"val": evaluation})] == ["train/a.jpg"]


def test_only_files_of_equal_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(leaks, "_digest", lambda path: read.append(path.stem) or path.read_bytes().hex())
    learning = samples(tmp_path / "train", a=b"1", b=b"22", c=b"33", d=b"333")
    evaluation = samples(tmp_path / "val", x=b"44", y=b"4444")
    assert shared_images(learning, {"val": evaluation}) == []
    assert sorted(read) == ["b", "c", "x"]  # each once


def test_nothing_shared() -> None:
    assert shared_images([], {}) == []
