"""Folders, files, lists, patterns, parts and odd files as inputs."""

import os
import shutil
from pathlib import Path

import pytest

from groundcli.data import Sample, find
from groundcli.data.find import Found, load
from groundcli.errors import GroundcliError, UsageError
from tests.data.files import write


def fill(root: Path, *files: str, **texts: str) -> Path:
    """Makes files: bare names hold a byte (nothing here decodes them), `name_txt="..."` and `name_token` text."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    for name, text in texts.items():
        (root / name.replace("__", "/").replace("_", ".")).write_text(text, encoding="utf-8")
    return root


def names(found: Found) -> list[str]:
    return [sample.name for sample in found.samples]


def failed(found: Found) -> dict[str, str]:
    return {failure.path: failure.reason for failure in found.failures}


def texts(sample: Sample) -> list[str]:
    return [caption.text for caption in sample.captions]


def test_a_folder_is_searched_to_the_bottom_in_order(tmp_path: Path) -> None:
    fill(tmp_path, "b.jpg", "a.PNG", "sub/deep/c.webp", ".hidden.jpg", ".cache/d.jpg", "sub/.e.jpg", "notes.md")
    found = load([tmp_path], phrases=["a dog"])
    assert names(found) == ["a.PNG", "b.jpg", "sub/deep/c.webp"]
    assert [sample.image.relative_to(tmp_path).as_posix() for sample in found.samples] == names(found)
    assert not found.failures


def test_captions_are_found_beside_the_images(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "sub/b.jpg", "c.jpg", a_txt="a dog\ntwo dogs", sub__b_txt="a cat", x_token="c.jpg#0\ta cow")
    found = load([tmp_path])
    assert [texts(sample) for sample in found.samples] == [["a dog", "two dogs"], ["a cow"], ["a cat"]]
    assert names(found) == ["a.jpg", "c.jpg", "sub/b.jpg"]
    assert not found.failures


def test_marked_phrases_are_read(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", a_txt="[a man] rides [/EN#7/animals a brown horse]")
    (caption,) = load([tmp_path]).samples[0].captions
    assert caption.text == "a man rides a brown horse"
    assert [phrase.text for phrase in caption.phrases] == ["a man", "a brown horse"]
    assert all(caption.text[slice(*phrase.span)] == phrase.text for phrase in caption.phrases)


def test_what_has_no_partner_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", "c.jpg", a_txt="a dog", c_txt="", d_txt="a cat", x_token="e.jpg#0\ta cow")
    found = load([tmp_path])
    assert names(found) == ["a.jpg"]
    assert {failure.path for failure in found.failures} == {"b.jpg", "c.jpg"}
    assert len(found.failures) == 2
    assert len(found.notes) == 1  # d.txt and e.jpg
    assert found.notes[0].endswith("and 1 more")
    reasons = {failure.path: failure.reason for failure in found.failures}
    assert "b.txt" in reasons["b.jpg"]
    assert "--phrase" in reasons["b.jpg"]
    assert "empty" in reasons["c.jpg"]


def test_phrases_are_captions_of_every_image(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", a_txt="not asked for")
    found = load([tmp_path], phrases=["a red car", " someone "])
    assert [texts(sample) for sample in found.samples] == [["a red car", "someone"]] * 2
    assert [(phrase.text, phrase.span) for c in found.samples[0].captions for phrase in c.phrases] == [
        ("a red car", (0, 9)),
        ("someone", (0, 7)),
    ]
    assert not found.failures


def test_named_captions_and_phrases_add_up(tmp_path: Path) -> None:
    fill(tmp_path / "images", "a.jpg", "b.jpg")
    fill(tmp_path, x_token="a.jpg#0\ta dog")
    found = load([tmp_path / "images"], tmp_path / "x.token", ["a car"])
    assert [texts(sample) for sample in found.samples] == [["a dog", "a car"], ["a car"]]
    assert not found.failures


def test_captions_in_a_folder_of_their_own(tmp_path: Path) -> None:
    fill(tmp_path / "images", "a.jpg", "sub/b.jpg")
    fill(tmp_path / "texts", "x", a_txt="a dog", b_txt="a cat", c_txt="nobody's")
    found = load([tmp_path / "images"], tmp_path / "texts")
    assert [texts(sample) for sample in found.samples] == [["a dog"], ["a cat"]]
    assert found.notes == ("c.txt: captions, but there is no image of that name",)
    assert not found.failures


def test_single_files(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", "c.jpg", a_txt="a dog", c_txt="a cow", x_token="b.jpg#0\ta cat\nz.jpg#0\tfar away")
    found = load([tmp_path / "b.jpg", tmp_path / "a.jpg"])
    assert names(found) == ["b.jpg", "a.jpg"]  # in the order asked for
    assert [texts(sample) for sample in found.samples] == [["a cat"], ["a dog"]]
    assert not found.failures  # nobody asked for c.jpg or z.jpg


def test_any_text_file_may_caption_the_only_image(tmp_path: Path) -> None:
    fill(tmp_path, "photo.jpg", words_txt="a dog")
    assert texts(load([tmp_path / "photo.jpg"], tmp_path / "words.txt").samples[0]) == ["a dog"]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["one", "two"], ["one/a.jpg", "two/a.jpg", "two/b.jpg", "two/sub/c.jpg"]),
        (["one/a.jpg", "two/a.jpg"], ["one/a.jpg", "two/a.jpg"]),
        (["one", "two/b.jpg"], ["a.jpg", "b.jpg"]),  # no clash: no prefix
        (["one", "one/a.jpg", "one"], ["a.jpg"]),  # the same image, thrice
        (["one", "two/../one"], ["a.jpg"]),
        (["two/sub", "two"], ["c.jpg", "a.jpg", "b.jpg"]),  # a folder within another
    ],
)
def test_names_of_several_inputs(tmp_path: Path, inputs: list[str], expected: list[str]) -> None:
    fill(tmp_path, "one/a.jpg", "two/a.jpg", "two/b.jpg", "two/sub/c.jpg")
    for name in ("one/a.txt", "two/a.txt", "two/b.txt", "two/sub/c.txt"):
        (tmp_path / name).write_text(name)
    found = load([tmp_path / name for name in inputs])
    assert names(found) == expected
    assert all(texts(sample)[0].endswith(Path(sample.name).with_suffix(".txt").name) for sample in found.samples)
    assert len({texts(sample)[0] for sample in found.samples}) == len(found.samples)
    assert not found.failures


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.jpg", "sub/b.jpg", a_txt="a dog", sub__b_txt="a cat")
    monkeypatch.chdir(tmp_path)
    assert names(load([Path()])) == ["a.jpg", "sub/b.jpg"]
    assert names(load([Path("a.jpg")])) == ["a.jpg"]
    monkeypatch.chdir(tmp_path / "sub")
    assert names(load([Path("..")])) == ["a.jpg", "sub/b.jpg"]


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    assert names(load([tmp_path / "images"], phrases=["a dog"])) == ["a.jpg", "linked/b.jpg"]


@pytest.mark.parametrize(
    ("inputs", "captions", "phrases", "error", "says"),
    [
        (["missing"], None, [], GroundcliError, "missing: no such"),
        (["full", "empty"], None, [], GroundcliError, "empty: no images"),
        (["full"], "missing.token", [], GroundcliError, "missing.token: no such"),
        (["full"], "latin.txt", [], GroundcliError, "UTF-8"),
        (["full"], None, ["a dog", " "], UsageError, "--phrase"),
    ],
)
def test_what_cannot_be_begun(
    tmp_path: Path, inputs: list[str], captions: str | None, phrases: list[str], error: type[Exception], says: str
) -> None:
    fill(tmp_path, "full/a.jpg", "empty/.hidden.jpg", "empty/b.md")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(error, match=says) as caught:
        load([tmp_path / name for name in inputs], tmp_path / captions if captions else None, phrases)
    assert "\n" not in str(caught.value)


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


def test_a_file_of_captions_is_no_image(photos: Path) -> None:
    (photos / "captions.csv").write_text("image,caption\n")
    with pytest.raises(GroundcliError, match=r"captions\.csv: captions, not images; name the folder of the images"):
        find.load([photos / "captions.csv"])


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
    assert not failed(first)
    assert failed(second).keys() == {"e f.jpg"}
    note = "z.jpg: captions.csv has captions for it, but there is no such image"
    assert first.notes == second.notes == (note,)
    assert load([photos], photos / "captions.csv", shard=(1, 2)).images == 2


def test_a_limit_comes_before_parts(photos: Path) -> None:
    assert names(load([photos], phrases=["a dog"], limit=3, shard=(2, 2))) == ["b.PNG"]


# --- Captions that nobody needs, that nobody has, and marks that mark nothing


def test_captions_of_other_images_are_one_note(photos: Path) -> None:
    write(photos, {"captions.csv": "image,caption\na.jpg,a dog\n" + "".join(f"x{i}.jpg,gone\n" for i in range(7_558))})
    result = load([photos])
    assert result.notes == ("x0.jpg: captions.csv has captions for it, but there is no such image; and 7557 more",)
    assert not [name for name in failed(result) if name.startswith("x")]


def test_no_captions_anywhere_is_one_error(tmp_path: Path) -> None:
    write(tmp_path, {"photos/a.jpg": b"x", "photos/b.jpg": b"x", "captions.csv": "image,caption\nz.jpg,a dog\n"})
    said = r"photos: no caption for any of the 2 images; put NAME\.txt beside NAME\.jpg, a caption per line, or give"
    with pytest.raises(GroundcliError, match=said):
        load([tmp_path / "photos"])
    said = r"captions\.csv: no caption for any of the 2 images \(z\.jpg: captions\.csv has captions for it, but"
    with pytest.raises(GroundcliError, match=said):
        load([tmp_path / "photos"], tmp_path / "captions.csv")
    assert load([tmp_path / "photos"], shard=(1, 2)).samples == []  # of a part nobody knows
    assert load([tmp_path / "photos"], shard=(3, 3)).notes == ("this shard has no images: there are too few for 3",)


def test_captions_that_take_too_long_to_read_are_failures(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", "c.jpg", a_txt="a dog " * 4000, b_txt="[" * 501 + "\na dog\n", c_txt="[" * 500)
    found = load([tmp_path])
    assert {sample.name: texts(sample) for sample in found.samples} == {"b.jpg": ["a dog"], "c.jpg": ["[" * 500]}
    assert failed(found) == {
        "a.jpg": "a caption of 23,999 characters, 'a dog a dog a dog a '...; at most 20,000 are read",
        "b.jpg": "a caption with 501 characters in a row, '[[[[[[[[[[[[[[[[[[[['...; at most 500 are read",
    }
    with pytest.raises(UsageError, match="--phrase: a caption with 501 characters in a row"):
        load([tmp_path], phrases=["x" * 501])


def test_brackets_that_mark_nothing_are_noted(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", a_txt="[a dog runs\n[a dog] runs", b_txt="a cat] sits")
    result = load([tmp_path])
    assert result.notes == ("2 captions have a bracket that marks no phrase: a.jpg: [a dog runs",)
    assert not failed(result)


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
    write(tmp_path, {"a.txt": "a dog"})
    assert load([tmp_path]).notes[0].startswith("th?.txt: ")


def test_folders_that_cannot_be_searched_are_reported(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def denied(path: Path) -> "os._ScandirContextManager[str]":
        if path.name in {"one", "locked"}:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(find.os, "scandir", denied)
    result = load([photos], phrases=["a dog"])
    assert names(result) == ["a.jpg", "b.PNG", "e f.jpg"]
    assert "Permission denied" in failed(result)["one"]
    with pytest.raises(GroundcliError, match="Permission denied"):
        load([photos / "one"])


def test_a_path_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GroundcliError, match="no such file"):
        load([tmp_path / ("a" * 5_000)])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_text_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path, {"more/new.jpg": b"x"})
    (tmp_path / "more" / "new.txt").symlink_to(tmp_path / "pipe")
    found = load([tmp_path / "more"])
    assert failed(found) == {"new.jpg": "no caption: new.txt: not a file"}
