import os
from pathlib import Path

import pytest

from groundcli.data.layout import find, reading
from groundcli.errors import GroundcliError
from tests.data.files import write


def test_the_first_place_that_exists(tmp_path: Path) -> None:
    write(tmp_path, {"b/x.json": "", "c/y.jpg": ""})
    assert find(tmp_path, [["a/x.json", "b/x.json"], ["c/"]], "") == [tmp_path / "b/x.json", tmp_path / "c"]


def test_all_that_is_missing(tmp_path: Path) -> None:
    write(tmp_path, {"c/y.jpg": ""})
    with pytest.raises(GroundcliError) as error:
        find(tmp_path, [["a.json", "b/a.json"], ["c/"], ["d/"]], "https://example.org")
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
