from pathlib import Path

import pytest

from groundcli.data.captions import Matched, match_captions
from tests.data.files import write


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
        ({"a.token": b"dog.jpg#0\tcaf\xe9\n"}, "a.token:1"),
        ({"a.token": b"dog.jpg#0\ta\0b\n"}, "a.token"),
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


@pytest.mark.parametrize(
    ("name", "images", "expected"),
    [
        ("./sub//dog.jpg", ["sub/dog.jpg"], "sub/dog.jpg"),
        ("sub\\dog.jpg", ["sub/dog.jpg"], "sub/dog.jpg"),
        ("C:\\photos\\sub\\dog.jpg", ["sub/dog.jpg", "more/dog.jpg"], "sub/dog.jpg"),
        ("/data/photos/sub/dog.jpg", ["sub/dog.jpg", "more/dog.jpg"], "sub/dog.jpg"),
        ("a/sub/dog.jpg", ["sub/dog.jpg", "b/sub/dog.jpg"], ""),  # either shares as much
        ("dog.JPG", ["dog.jpg"], "dog.jpg"),
        ("dog.jpg", ["dog.jpg", "dog.JPG"], "dog.jpg"),  # spelled just so
        ("dog.Jpg", ["dog.jpg", "dog.JPG"], ""),
        ("Dog.jpg", ["dog.jpg"], None),  # another name
        ("dog.png", ["dog.jpg"], None),
        ("dog", ["dog.jpg"], "dog.jpg"),  # an identifier
        ("dog", ["sub/dog.jpg"], "sub/dog.jpg"),
        ("dog", ["dog.jpg", "dog.png"], ""),
        ("caf\u00e9.jpg", ["cafe\u0301.jpg"], "cafe\u0301.jpg"),
        ("cafe\u0301.jpg", ["sub/caf\u00e9.JPG"], "sub/caf\u00e9.JPG"),
        ("caf\u00e9.jpg", ["cafe\u0301.jpg", "caf\u00e9.jpg"], "caf\u00e9.jpg"),
    ],
)
def test_names_in_a_file(tmp_path: Path, name: str, images: list[str], expected: str | None) -> None:
    matched = match_captions(write(tmp_path, {"a.token": f"{name}#0\ta dog\n"}), tmp_path, images)
    assert list(matched.captions) == ([expected] if expected else [])
    assert [failure.path for failure in matched.failures] == ([name] if expected == "" else [])
    assert [orphan.path for orphan in matched.orphans] == ([name] if expected is None else [])


def test_two_spellings_in_one_file_are_one_image(tmp_path: Path) -> None:
    files = write(tmp_path, {"a.token": "dog.jpg#0\tone\n./dog.jpg#1\ttwo\n"})
    assert match_captions(files, tmp_path, ["dog.jpg"]).captions == {"dog.jpg": ["one", "two"]}


def test_only_wanted_images_are_kept_and_reported(tmp_path: Path) -> None:
    files = write(tmp_path, {"a.token": "dog.jpg#0\ta\ncat.jpg#0\tb\n", "cow.txt": "", "hen.txt": ""})
    matched = match_captions(files, tmp_path, ["dog.jpg", "cat.jpg", "cow.jpg", "hen.jpg"], {"dog.jpg", "hen.jpg"})
    assert matched.captions == {"dog.jpg": ["a"]}
    assert [failure.path for failure in matched.failures] == ["hen.jpg"]
    assert not matched.orphans


def test_a_sidecar_that_names_images_is_in_doubt(tmp_path: Path) -> None:
    matched = match_captions(
        write(tmp_path, {"captions.txt": "image,caption\ndog.jpg,a dog"}), tmp_path, ["captions.jpg"]
    )
    assert not matched.captions
    assert "rename" in matched.failures[0].reason


def test_sentences_may_lie_anywhere(tmp_path: Path) -> None:
    files = write(tmp_path, {"Entities/Sentences/12.txt": "[/EN#1/people A man] runs .", "Entities/other/13.txt": "x"})
    matched = match_captions(files, tmp_path, ["Images/12.jpg", "Images/13.jpg"])
    assert set(matched.captions) == {"Images/12.jpg"}
