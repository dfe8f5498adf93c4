import os
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from groundcli.data.published import Lazy, locate, reading, scale_of, scaled
from groundcli.errors import GroundcliError
from tests.data.files import write


def test_the_first_place_that_exists(tmp_path: Path) -> None:
    write(tmp_path, {"b/x.json": "", "c/y.jpg": ""})
    assert locate(tmp_path, [["a/x.json", "b/x.json"], ["c/"]], "") == [tmp_path / "b/x.json", tmp_path / "c"]


def test_all_that_is_missing(tmp_path: Path) -> None:
    write(tmp_path, {"c/y.jpg": ""})
    with pytest.raises(GroundcliError) as error:
        locate(tmp_path, [["a.json", "b/a.json"], ["c/"], ["d/"]], "https://example.org")
    assert str(error.value) == f"{tmp_path}: lacks a.json, d/ (published at https://example.org)"


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (KeyError("id"), "not a list of things (no 'id' where one is expected); fetch it again"),
        (ValueError("two\nlines"), "not a list of things (two lines); fetch it again"),
        (PermissionError(13, os.strerror(13)), "can't be read (Permission denied); check its permissions"),
        (GroundcliError("said already"), "said already"),
    ],
)
def test_one_line_for_whatever_goes_wrong(raised: Exception, words: str) -> None:
    with pytest.raises(GroundcliError) as error, reading(Path("a.json"), "a list of things"):
        raise raised
    assert str(error.value) in (words, f"a.json: {words}")


@pytest.mark.parametrize(
    ("orientation", "scale"),
    [(1, (2, 0.5)), (3, (2, 0.5)), (6, (0.5, 2)), (8, (0.5, 2))],  # 6 and 8 lie on their sides
)
def test_the_upright_image_counts(tmp_path: Path, orientation: int, scale: tuple[float, float]) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (200, 50)).save(tmp_path / "a.jpg", exif=exif)
    assert scale_of(tmp_path / "a.jpg", (100, 100)) == scale


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not an image")
    assert scale_of(tmp_path / "a.jpg", (3, 4)) == scale_of(tmp_path / "b.jpg", (3, 4)) == (1, 1)


def test_all_four_numbers_are_scaled() -> None:
    assert scaled((1, 2, 3, 4), (10, 100)) == (10, 200, 30, 400)


def test_items_are_made_when_they_are_asked_for() -> None:
    made: list[int] = []
    items = Lazy([1, 2, 3, 4], lambda key: made.append(key) or 10 * key)
    assert (len(items), len(items[1:3]), made) == (4, 2, [])
    assert (items[1], items[-1], items[1:3][1]) == (20, 40, 30)
    assert made == [2, 4, 3]
    assert list(items) == [10, 20, 30, 40]
    with pytest.raises(IndexError):
        items[4]
