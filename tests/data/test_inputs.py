"""Lists, patterns, parts and odd files as inputs."""

import os
import shutil
from pathlib import Path

import pytest

from groundcli.data import folder
from groundcli.data.folder import Found, load, parse_shard
from groundcli.errors import GroundcliError, UsageError
from tests.data.files import write


def names(found: Found) -> list[str]:
    return [sample.name for sample in found.samples]


def failed(found: Found) -> dict[str, str]:
    return {failure.path: failure.reason for failure in found.failures}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    files = ["a.jpg", "b.PNG", "one/c.jpg", "one/two/d.jpg", "e f.jpg", ".hidden.jpg", "one/.cache/g.jpg"]
    write(tmp_path / "photos", dict.fromkeys(files, b"x") | {"a.txt": "a dog", "one/c.txt": "a cat"})
    return tmp_path / "photos"


# --- Lists


@pytest.mark.parametrize("suffix", [".txt", ".lst", ".LIST"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_list_names_images(photos: Path, suffix: str, line_end: str) -> None:
    lines = ["\ufeffone/c.jpg", "", "# a.jpg", " ./e f.jpg ", "one/c.jpg", "missing/x.jpg", "one", "a.jpg"]
    write(photos, {f"list{suffix}": line_end.join(lines)})
    result = load([photos / f"list{suffix}"], phrases=["a dog"])
    assert names(result) == ["one/c.jpg", "e f.jpg", "a.jpg"]  # in the list's order
    assert result.images == 5
    assert failed(result).keys() == {"missing/x.jpg", "one"}
    assert f"line 6 of {photos / f'list{suffix}'}" in failed(result)["missing/x.jpg"]
    assert "a folder" in failed(result)["one"]


def test_captions_are_found_beside_the_images_of_a_list(photos: Path) -> None:
    write(
        photos, {"list.txt": "a.jpg\none/c.jpg\ne f.jpg\n", "captions.csv": "image,caption\ne f.jpg,a cow\nz.jpg,x\n"}
    )
    result = load([photos / "list.txt"])
    assert [caption.text for sample in result.samples for caption in sample.captions] == ["a dog", "a cat", "a cow"]
    assert not result.failures  # nobody asked for z.jpg


def test_paths_in_a_list(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{photos}/a.jpg", "../photos/b.PNG", "c.jpg", "two/d.jpg"]  # the last two from the working directory
    write(tmp_path, {"lists/list.txt": "\n".join(lines)})
    monkeypatch.chdir(photos / "one")
    assert names(load([tmp_path / "lists/list.txt"], phrases=["a dog"])) == ["a.jpg", "b.PNG", "c.jpg", "two/d.jpg"]
    result = load([tmp_path / "lists/list.txt", photos], phrases=["a dog"])
    assert names(result) == ["a.jpg", "b.PNG", "c.jpg", "two/d.jpg", "e f.jpg"]  # each once


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("# nothing\n\n", "no paths in it"),
        ("a dog\na brown dog\n", "none of the 2 paths in it exists"),  # captions
        ("word " * 9_999, "none of the 1 paths in it exists"),
    ],
)
def test_a_list_of_nothing(photos: Path, content: str, says: str) -> None:
    write(photos, {"list.txt": content})
    with pytest.raises(GroundcliError, match=says) as caught:
        load([photos / "list.txt"], phrases=["a dog"])
    assert "\n" not in str(caught.value)


# --- Patterns


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "e f.jpg"]),
        ("**/*.jpg", ["a.jpg", "e f.jpg", "one/c.jpg", "one/two/d.jpg"]),
        ("**/*", ["a.jpg", "b.PNG", "e f.jpg", "one/c.jpg", "one/two/d.jpg"]),  # images alone, in a folder's order
        ("**", ["a.jpg", "b.PNG", "e f.jpg", "one/c.jpg", "one/two/d.jpg"]),
        ("[ab].*", ["a.jpg", "b.PNG"]),
        ("o*/?.jpg", ["one/c.jpg"]),
    ],
)
def test_patterns(photos: Path, pattern: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(load([photos / pattern], phrases=["a dog"])) == expected
    monkeypatch.chdir(photos)
    assert names(load([Path(pattern)], phrases=["a dog"])) == expected


def test_captions_beside_the_images_of_a_pattern(photos: Path) -> None:
    result = load([photos / "**/[ac].jpg"])
    assert [sample.captions[0].text for sample in result.samples] == ["a dog", "a cat"]
    assert not result.failures


def test_a_name_with_brackets_is_a_name(photos: Path) -> None:
    write(photos, {"[ab].jpg": b"x"})
    assert names(load([photos / "[ab].jpg"], phrases=["a dog"])) == ["[ab].jpg"]


@pytest.mark.parametrize(
    ("pattern", "error", "says"),
    [
        ("*.gif", GroundcliError, "no image matches"),
        ("*.txt", GroundcliError, "no image matches"),
        ("nowhere/*.jpg", GroundcliError, "no image matches"),
        ("**a.jpg", UsageError, "whole folders"),
    ],
)
def test_patterns_that_match_nothing(photos: Path, pattern: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        load([photos / "a.jpg", photos / pattern], phrases=["a dog"])


# --- Depth and parts


def test_one_folder_deep(photos: Path) -> None:
    result = load([photos], recursive=False)
    assert result.images == 3
    assert names(result) == ["a.jpg"]
    assert failed(result).keys() == {"b.PNG", "e f.jpg"}  # the subfolder's captions are no orphans
    (photos / "one/c.jpg").unlink()
    with pytest.raises(GroundcliError, match="only in its subfolders"):
        load([photos / "one"], recursive=False)


def test_limit(photos: Path) -> None:
    result = load([photos], limit=2)
    assert result.images == 2
    assert names(result) == ["a.jpg"]
    assert failed(result).keys() == {"b.PNG"}  # captions of images that come later are no orphans
    assert load([photos], phrases=["a dog"], limit=99).images == 5


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_parts_are_complete_and_disjoint(photos: Path, tmp_path: Path, parts: int) -> None:
    everything = names(load([photos], phrases=["a dog"]))
    shutil.copytree(photos, tmp_path / "z" / "elsewhere")
    for place in (photos, tmp_path / "z" / "elsewhere"):
        found = [names(load([place], phrases=["a dog"], shard=(i, parts))) for i in range(1, parts + 1)]
        assert found == [everything[i::parts] for i in range(parts)]


def test_failures_of_a_part_are_its_own(photos: Path) -> None:
    write(photos, {"captions.csv": "image,caption\nz.jpg,gone\nd.jpg,a cow\n", "e f.txt": ""})
    (photos / "b.PNG").unlink()
    first, second = (load([photos], shard=(i, 2)) for i in (1, 2))  # a, c and e f, d
    assert (names(first), names(second)) == (["a.jpg", "one/c.jpg"], ["one/two/d.jpg"])
    assert failed(first).keys() == {"z.jpg"}
    assert failed(second).keys() == {"z.jpg", "e f.jpg"}
    assert load([photos], photos / "captions.csv", shard=(1, 2)).images == 2


def test_a_limit_comes_before_parts(photos: Path) -> None:
    assert names(load([photos], phrases=["a dog"], limit=3, shard=(2, 2))) == ["b.PNG"]


@pytest.mark.parametrize(("text", "expected"), [("1/1", (1, 1)), ("2/8", (2, 8)), (" 10/10 ", (10, 10))])
def test_parse_shard(text: str, expected: tuple[int, int]) -> None:
    assert parse_shard(text) == expected


@pytest.mark.parametrize(
    "text", ["", "2", "0/8", "9/8", "-1/8", "1/0", "a/b", "1/2/3", "1.5/2", "1 / 2", "9" * 5_000 + "/1"]
)
def test_shards_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="expected I/N"):
        parse_shard(text)


# --- Odd files


def test_a_folder_named_as_an_image_is_searched(tmp_path: Path) -> None:
    write(tmp_path, {"x.jpg/a.png": b"x", "b.jpg": b"x"})
    assert names(load([tmp_path], phrases=["a dog"])) == ["b.jpg", "x.jpg/a.png"]
    assert names(load([tmp_path / "x.jpg"], phrases=["a dog"])) == ["a.png"]


def test_broken_links_are_images_that_failed(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": b"x", "b.txt": "a dog", "list.lst": "b.jpg\na.jpg\n"})
    (tmp_path / "b.jpg").symlink_to("gone.jpg")
    (tmp_path / "c.jpg").symlink_to("c.jpg")
    (tmp_path / "d.txt").symlink_to("gone.txt")
    write(tmp_path, {"d.jpg": b"x"})
    for inputs in ([tmp_path], [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")]):
        result = load(inputs)
        assert result.images == 4
        assert failed(result).keys() == {"a.jpg", "b.jpg", "c.jpg", "d.jpg"}
        assert "gone.jpg, which isn't there" in failed(result)["b.jpg"]
        assert "d.txt" in failed(result)["d.jpg"]
    for path in (tmp_path / "list.lst", tmp_path / "[ab].jpg"):
        result = load([path], phrases=["a dog"])
        assert (names(result), list(failed(result))) == (["a.jpg"], ["b.jpg"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_are_no_unicode_are_reported_legibly(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": b"x", os.fsdecode(b"caf\xe9.jpg"): b"x", os.fsdecode(b"th\xe9.txt"): b"x"})
    result = load([tmp_path], phrases=["a dog"])
    assert names(result) == ["a.jpg"]
    assert "UTF-8" in failed(result)["caf?.jpg"]
    assert "th?.txt" in failed(load([tmp_path]))


def test_folders_that_cannot_be_searched_are_reported(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def denied(path: Path) -> "os._ScandirContextManager[str]":
        if path.name in {"one", "locked"}:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(folder.os, "scandir", denied)
    result = load([photos], phrases=["a dog"])
    assert names(result) == ["a.jpg", "b.PNG", "e f.jpg"]
    assert "Permission denied" in failed(result)["one"]
    with pytest.raises(GroundcliError, match="Permission denied"):
        load([photos / "one"])


def test_a_path_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GroundcliError, match="no such file"):
        load([tmp_path / ("a" * 5_000)])
