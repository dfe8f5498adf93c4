from pathlib import Path

import pytest

from groundcli.data.captions import Matched, match_captions


def write(root: Path, files: dict[str, str | bytes]) -> list[Path]:
    paths = []
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths.append(path)
    return paths


@pytest.mark.parametrize(
    "content",
    [
        "a dog\ntwo dogs\n",
        "a dog\ntwo dogs",  # no line end at the end
        "\n  a dog  \n\n \ntwo dogs\n\n",  # blank lines and spaces
        "a dog\r\ntwo dogs\r\n",  # Windows
        b"\xef\xbb\xbfa dog\ntwo dogs\n",  # byte order mark
    ],
)
def test_sidecar_has_a_caption_a_line(tmp_path: Path, content: str | bytes) -> None:
    files = write(tmp_path, {"sub/dog.txt": content})
    matched = match_captions(files, tmp_path, ["sub/dog.jpg", "dog.jpg"])
    assert matched.captions == {"sub/dog.jpg": ["a dog", "two dogs"]}
    assert not matched.failures
    assert not matched.orphans


@pytest.mark.parametrize(
    ("name", "in_file"),
    [
        ("results.token", "dog.jpg"),  # base name, as Flickr has it
        ("results.token", "sub/dog.jpg"),  # path from the root
        ("sub/results.token", "dog.jpg"),  # path from the file's own folder
        ("results.token", "elsewhere/dog.jpg"),  # path of another machine: the base name is unique
        ("captions.token.txt", "dog.jpg"),  # known by its lines
    ],
)
def test_token_file_finds_its_image(tmp_path: Path, name: str, in_file: str) -> None:
    lines = f"\ufeff{in_file}#0\tA dog .\r\n\r\n{in_file}#1\tTwo dogs #1 .\r\n"
    matched = match_captions(write(tmp_path, {name: lines}), tmp_path, ["cat.jpg", "sub/dog.jpg"])
    assert matched.captions == {"sub/dog.jpg": ["A dog .", "Two dogs #1 ."]}
    assert not matched.failures
    assert not matched.orphans


def test_a_path_beats_a_base_name(tmp_path: Path) -> None:
    files = write(tmp_path, {"a.token": "dog.jpg#0\there\nsub/dog.jpg#0\tthere\n"})
    matched = match_captions(files, tmp_path, ["dog.jpg", "sub/dog.jpg"])
    assert matched.captions == {"dog.jpg": ["here"], "sub/dog.jpg": ["there"]}


def test_an_unclear_base_name_is_reported_and_not_guessed(tmp_path: Path) -> None:
    files = write(tmp_path, {"a.token": "dog.jpg#0\ta dog\n"})
    matched = match_captions(files, tmp_path, ["one/dog.jpg", "two/dog.jpg"])
    assert not matched.captions
    assert [failure.path for failure in matched.failures] == ["dog.jpg"]
    assert "one/dog.jpg, two/dog.jpg" in matched.failures[0].reason


def test_bad_lines_are_numbered_and_the_rest_is_used(tmp_path: Path) -> None:
    files = write(tmp_path, {"sub/a.token": "dog.jpg#0\ta dog\ndog.jpg two dogs\ndog.jpg#x\tthree\n"})
    matched = match_captions(files, tmp_path, ["dog.jpg"])
    assert matched.captions == {"dog.jpg": ["a dog"]}
    assert [failure.path for failure in matched.failures] == ["sub/a.token:2", "sub/a.token:3"]


def test_captions_without_an_image_are_named_once_each(tmp_path: Path) -> None:
    files = write(tmp_path, {"a.token": "dog.jpg#0\ta\nfox.jpg#0\tb\nfox.jpg#1\tc\n", "cow.txt": "a cow"})
    matched = match_captions(files, tmp_path, ["dog.jpg"])
    assert [orphan.path for orphan in matched.orphans] == ["fox.jpg", "cow.txt"]
    assert not matched.failures


@pytest.mark.parametrize("name", ["README.txt", "LICENSE.txt", "notes.md", "data.csv"])
def test_files_that_are_no_captions_are_passed_over(tmp_path: Path, name: str) -> None:
    matched = match_captions(write(tmp_path, {name: b"\xff\xfe no captions"}), tmp_path, ["dog.jpg"])
    assert matched == Matched()


@pytest.mark.parametrize(
    ("files", "failed"),
    [
        ({"dog.txt": "caf\xe9".encode("latin-1")}, "dog.jpg"),  # the image is what can't be used
        ({"dog.txt": "\n \n"}, "dog.jpg"),
        ({"a.token": b"dog.jpg#0\tcaf\xe9\n"}, "a.token"),
    ],
)
def test_unusable_files(tmp_path: Path, files: dict[str, str | bytes], failed: str) -> None:
    matched = match_captions(write(tmp_path, files), tmp_path, ["dog.jpg"])
    assert not matched.captions
    assert [failure.path for failure in matched.failures] == [failed]
    assert "\n" not in matched.failures[0].reason


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"dog.txt": "sidecar", "a.token": "dog.jpg#0\ttoken"}, "token"),
        # Flickr8k has both; the lemma file says "dog run", not what people wrote
        ({"F.lemma.token.txt": "dog.jpg#0\tlemma", "F.token.txt": "dog.jpg#0\ttoken"}, "token"),
    ],
)
def test_of_two_sources_one_counts(tmp_path: Path, files: dict[str, str | bytes], expected: str) -> None:
    assert match_captions(write(tmp_path, files), tmp_path, ["dog.jpg"]).captions == {"dog.jpg": [expected]}


def test_sidecars_in_a_tree_of_their_own(tmp_path: Path) -> None:
    files = write(tmp_path, {"dog.txt": "a dog", "sub/cat.txt": "a cat", "cow.txt": "which of two"})
    images = ["deep/dog.jpg", "sub/cat.jpg", "one/cow.jpg", "two/cow.jpg"]
    assert match_captions(files, tmp_path, images, anywhere=True).captions == {
        "deep/dog.jpg": ["a dog"],
        "sub/cat.jpg": ["a cat"],
    }
    assert set(match_captions(files, tmp_path, images).captions) == {"sub/cat.jpg"}
