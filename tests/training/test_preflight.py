from pathlib import Path

import pytest

from groundcli.data.sample import Caption, Sample
from groundcli.errors import GroundcliError, UsageError
from groundcli.training import preflight
from groundcli.training.preflight import Leak, check_images, check_leaks, shared_images
from tests.data.files import write
from tests.shapes import draw_shape


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
    assert "compared with no evaluation data" in check_leaks(learning, {})


def files(root: Path, **contents: bytes | None) -> list[Sample]:
    """Samples of files by their stems; those of None don't exist."""
    write(root, {f"{name}.jpg": content for name, content in contents.items() if content is not None})
    return [Sample(f"{root.name}/{name}.jpg", root / f"{name}.jpg") for name in contents]


def test_by_name_and_by_content(tmp_path: Path) -> None:
    learning = files(tmp_path / "train", a=b"one", b=b"two", c=b"six", d=b"four")
    evaluation = files(tmp_path / "val", A=b"other", x=b"six", y=b"new", z=b"five")
    assert shared_images(learning, {"flickr30k val": evaluation}) == [
        Leak("train/a.jpg", "flickr30k val", "val/A.jpg", "name"),
        Leak("train/c.jpg", "flickr30k val", "val/x.jpg", "content"),
    ]


def test_every_split_is_named(tmp_path: Path) -> None:
    learning = files(tmp_path / "train", a=b"one")
    splits = {"val": files(tmp_path / "val", a=b"1"), "test": files(tmp_path / "test", b=b"one")}
    assert [(leak.split, leak.by) for leak in shared_images(learning, splits)] == [("val", "name"), ("test", "content")]


def test_coco_of_2014_and_2017(tmp_path: Path) -> None:
    learning = files(tmp_path / "train2014", COCO_train2014_000000000139=b"one")
    evaluation = files(tmp_path / "val2017", **{"000000000139": b"1"})
    assert [leak.by for leak in shared_images(learning, {"coco val": evaluation})] == ["name"]


def test_missing_files_share_nothing_but_names(tmp_path: Path) -> None:
    learning = files(tmp_path / "train", a=None, b=None)
    evaluation = files(tmp_path / "val", a=None, c=None)
    assert [leak.learned for leak in shared_images(learning, {"val": evaluation})] == ["train/a.jpg"]


def test_only_files_of_equal_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(preflight, "_digest", lambda path: read.append(path.stem) or path.read_bytes().hex())
    learning = files(tmp_path / "train", a=b"1", b=b"22", c=b"33", d=b"333")
    evaluation = files(tmp_path / "val", x=b"44", y=b"4444")
    assert shared_images(learning, {"val": evaluation}) == []
    assert sorted(read) == ["b", "c", "x"]  # each once


def test_nothing_shared() -> None:
    assert shared_images([], {}) == []
