from pathlib import Path

import pytest

from groundcli.data.folder import load
from groundcli.data.sample import Sample
from groundcli.errors import BadInput, GroundcliError, UsageError


def fill(root: Path, *files: str, **texts: str) -> Path:
    """Makes files: bare names hold a byte (nothing here decodes them), `name_txt="..."` and `name_token` text."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    for name, text in texts.items():
        (root / name.replace("__", "/").replace("_", ".")).write_text(text, encoding="utf-8")
    return root


def names(samples: list[Sample]) -> list[str]:
    return [sample.name for sample in samples]


def texts(sample: Sample) -> list[str]:
    return [caption.text for caption in sample.captions]


def test_a_folder_is_searched_to_the_bottom_in_order(tmp_path: Path) -> None:
    fill(tmp_path, "b.jpg", "a.PNG", "sub/deep/c.webp", ".hidden.jpg", ".cache/d.jpg", "sub/.e.jpg", "notes.md")
    samples, failures, *_ = load([tmp_path], phrases=["a dog"])
    assert names(samples) == ["a.PNG", "b.jpg", "sub/deep/c.webp"]
    assert [sample.image.relative_to(tmp_path).as_posix() for sample in samples] == names(samples)
    assert not failures


def test_captions_are_found_beside_the_images(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "sub/b.jpg", "c.jpg", a_txt="a dog\ntwo dogs", sub__b_txt="a cat", x_token="c.jpg#0\ta cow")
    samples, failures, *_ = load([tmp_path])
    assert [texts(sample) for sample in samples] == [["a dog", "two dogs"], ["a cow"], ["a cat"]]
    assert names(samples) == ["a.jpg", "c.jpg", "sub/b.jpg"]
    assert not failures


def test_marked_phrases_are_read(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", a_txt="[a man] rides [/EN#7/animals a brown horse]")
    (caption,) = load([tmp_path])[0][0].captions
    assert caption.text == "a man rides a brown horse"
    assert [phrase.text for phrase in caption.phrases] == ["a man", "a brown horse"]
    assert all(caption.text[slice(*phrase.span)] == phrase.text for phrase in caption.phrases)


def test_what_has_no_partner_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", "c.jpg", a_txt="a dog", c_txt="", d_txt="a cat", x_token="e.jpg#0\ta cow")
    samples, failures, *_ = load([tmp_path])
    assert names(samples) == ["a.jpg"]
    assert {failure.path for failure in failures} == {"b.jpg", "c.jpg", "d.txt", "e.jpg"}
    assert len(failures) == 4
    reasons = {failure.path: failure.reason for failure in failures}
    assert "b.txt" in reasons["b.jpg"]
    assert "--phrase" in reasons["b.jpg"]
    assert "empty" in reasons["c.jpg"]


def test_phrases_are_captions_of_every_image(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", a_txt="not asked for")
    samples, failures, *_ = load([tmp_path], phrases=["a red car", " someone "])
    assert [texts(sample) for sample in samples] == [["a red car", "someone"]] * 2
    assert [(phrase.text, phrase.span) for c in samples[0].captions for phrase in c.phrases] == [
        ("a red car", (0, 9)),
        ("someone", (0, 7)),
    ]
    assert not failures


def test_named_captions_and_phrases_add_up(tmp_path: Path) -> None:
    fill(tmp_path / "images", "a.jpg", "b.jpg")
    fill(tmp_path, x_token="a.jpg#0\ta dog")
    samples, failures, *_ = load([tmp_path / "images"], tmp_path / "x.token", ["a car"])
    assert [texts(sample) for sample in samples] == [["a dog", "a car"], ["a car"]]
    assert not failures


def test_captions_in_a_folder_of_their_own(tmp_path: Path) -> None:
    fill(tmp_path / "images", "a.jpg", "sub/b.jpg")
    fill(tmp_path / "texts", "x", a_txt="a dog", b_txt="a cat", c_txt="nobody's")
    samples, failures, *_ = load([tmp_path / "images"], tmp_path / "texts")
    assert [texts(sample) for sample in samples] == [["a dog"], ["a cat"]]
    assert [failure.path for failure in failures] == ["c.txt"]


def test_single_files(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", "c.jpg", a_txt="a dog", c_txt="a cow", x_token="b.jpg#0\ta cat\nz.jpg#0\tfar away")
    samples, failures, *_ = load([tmp_path / "b.jpg", tmp_path / "a.jpg"])
    assert names(samples) == ["b.jpg", "a.jpg"]  # in the order asked for
    assert [texts(sample) for sample in samples] == [["a cat"], ["a dog"]]
    assert not failures  # nobody asked for c.jpg or z.jpg


def test_any_text_file_may_caption_the_only_image(tmp_path: Path) -> None:
    fill(tmp_path, "photo.jpg", words_txt="a dog")
    assert texts(load([tmp_path / "photo.jpg"], tmp_path / "words.txt")[0][0]) == ["a dog"]


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
    samples, failures, *_ = load([tmp_path / name for name in inputs])
    assert names(samples) == expected
    assert all(texts(sample)[0].endswith(Path(sample.name).with_suffix(".txt").name) for sample in samples)
    assert len({texts(sample)[0] for sample in samples}) == len(samples)
    assert not failures


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.jpg", "sub/b.jpg", a_txt="a dog", sub__b_txt="a cat")
    monkeypatch.chdir(tmp_path)
    assert names(load([Path()])[0]) == ["a.jpg", "sub/b.jpg"]
    assert names(load([Path("a.jpg")])[0]) == ["a.jpg"]
    monkeypatch.chdir(tmp_path / "sub")
    assert names(load([Path("..")])[0]) == ["a.jpg", "sub/b.jpg"]


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    assert names(load([tmp_path / "images"], phrases=["a dog"])[0]) == ["a.jpg", "linked/b.jpg"]


@pytest.mark.parametrize(
    ("inputs", "captions", "phrases", "error", "says"),
    [
        (["missing"], None, [], GroundcliError, "missing: no such"),
        (["full", "empty"], None, [], GroundcliError, "empty: no images"),
        (["full"], "missing.token", [], GroundcliError, "missing.token: no such"),
        (["full"], "latin.txt", [], BadInput, "UTF-8"),
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
