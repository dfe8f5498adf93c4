"""What holds for every input, tried on made-up ones: marks of captions, words, spans, readers, boxes, names."""

import json
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundcli.annotation.journal import Line
from groundcli.answer import PhraseHeat, Reading, answer
from groundcli.data import Caption
from groundcli.data.caption_files import captions_of, is_unicode
from groundcli.data.find import load
from groundcli.data.phrases import parse, tokenize, words_in
from groundcli.errors import GroundcliError
from groundcli.files import beside
from groundcli.output.record import opened, record_of
from tests.faults.conftest import CASES

pytestmark = pytest.mark.slow
tried = settings(
    max_examples=100 * CASES,
    deadline=None,
    derandomize=CASES == 1,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PIECES = [*"[]/# \t\u2028", "EN", "/EN#1/people ", "a", "dog", "é", "🐕", "\ud800"]
MARKED = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["image", "file_name", "caption", "text", "id", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
SIZES = st.tuples(st.integers(24, 3000), st.integers(24, 3000)).filter(lambda size: size[0] * size[1] < 1_000_000)


@tried
@given(MARKED)
def test_marks(text: str) -> None:
    """Phrases are spans of the text, in order, and nothing is lost but marks."""
    caption = parse(text)
    end = 0
    for phrase in caption.phrases:
        start, stop = phrase.span
        assert end <= start < stop <= len(caption.text)
        assert caption.text[start:stop] == phrase.text == phrase.text.strip()
        end = stop
    if not caption.phrases:
        assert caption.text == text


@tried
@given(st.text(max_size=60), st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_words_and_spans(text: str, span: tuple[int, int]) -> None:
    words = tokenize(text)
    assert [word.text for word in words] == [text[word.start : word.end] for word in words]
    assert all(a.end <= b.start for a, b in pairwise(words))
    start, stop = sorted(span)
    inside = words_in(words, (start, stop))
    assert [i in inside for i in range(len(words))] == [w.start < stop and w.end > start for w in words]


@tried
@given(JSON)
def test_items_of_captions_files(item: object) -> None:
    """Captions, or a reason; nothing else happens."""
    try:
        captions = captions_of(item)
    except ValueError:
        return
    assert all(isinstance(text, str) for caption in captions for text in caption)


@tried
@given(
    st.sampled_from(["a.txt", "a.csv", "a.tsv", "a.json", "a.jsonl", "a.token", "dog.txt"]),
    st.binary(max_size=80)
    | st.text(max_size=80).map(lambda text: text.encode(errors="surrogateescape" if is_unicode(text) else "replace"))
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.lists(JSON, max_size=4).map(lambda values: "\n".join(map(json.dumps, values)).encode())
    | st.text(st.sampled_from('",;|\t\n\r#0\\ab'), max_size=60).map(lambda text: f"image,caption\n{text}".encode()),
)
def test_any_bytes_as_captions(tmp_path: Path, name: str, content: bytes) -> None:
    """The dog has captions of text, or something says why not; the cat has its own, whatever else lies there."""
    for old in tmp_path.iterdir():
        old.unlink()
    for image in ("dog.jpg", "cat.jpg"):
        (tmp_path / image).write_bytes(b"x")
    (tmp_path / "cat.txt").write_text("a cat\n")
    (tmp_path / name).write_bytes(content)
    found = load([tmp_path])
    assert found.images == 2
    captions = {sample.name: [caption.text for caption in sample.captions] for sample in found.samples}
    assert "a cat" in captions["cat.jpg"]
    assert "dog.jpg" in captions or "dog.jpg" in [failure.path for failure in found.failures]
    assert all(is_unicode(text) and text.strip() for several in captions.values() for text in several)
    assert all(is_unicode(failure.reason) and len(failure.reason) < 500 for failure in found.failures)
    with suppress(GroundcliError):
        load([tmp_path], tmp_path / name)


@tried
@given(
    SIZES,
    st.integers(1, 12),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["extents", "sides", "authors"]),
    st.booleans(),
)
def test_points_and_boxes_lie_in_the_image(
    size: tuple[int, int], side: int, seed: int, boxes: str, sparse: bool
) -> None:
    draw = np.random.default_rng(seed)
    heat = draw.random((3, side, side)).astype(np.float32) * draw.choice([1e-6, 1.0, 1e6])
    if sparse:
        heat *= draw.random(heat.shape) > 0.8
    captions = [Caption.of_phrase(text) for text in ("a", "b", "c")]
    scores = (heat.max((1, 2)) > 0).astype(np.float32) * 0.5
    extents = draw.random((3, side * (boxes == "extents"), side)).astype(np.float32)
    if extents.size:
        extents[heat == heat.max((1, 2), keepdims=True)] = 1
    found = PhraseHeat(heat, scores, np.zeros(3, int), np.zeros((3, 0), np.float32), extents)
    answers = answer(captions, size, found, Reading(boxes=boxes))  # type: ignore[arg-type]
    width, height = size
    for one in answers:
        (phrase,) = one.phrases
        if not phrase.found:
            assert not phrase.boxes
            continue
        assert phrase.point is not None
        assert 0 <= phrase.point[0] < width
        assert 0 <= phrase.point[1] < height
        for (x, y, w, h), score in zip(phrase.boxes, phrase.box_scores, strict=True):
            assert min(x, y) >= 0
            assert min(w, h) > 0
            assert x + w <= width + 1e-3
            assert y + h <= height + 1e-3
            assert 0 <= score <= 1
    record = record_of("a.jpg", answers, size)
    json.dumps(record, allow_nan=False)
    for caption in record["captions"]:
        for phrase in caption["phrases"]:
            assert phrase["segmentation"]["size"] == [height, width]
            assert 0 < phrase["area"] <= width * height


PARTS = st.lists(st.sampled_from(["a", "b", ".jpg", ".png", ".npz", "+", "~", "é"]), min_size=1, max_size=8).map(
    "".join
)
NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@tried
@given(NAMES, NAMES, st.sampled_from([".jpg", ".npz"]))
def test_names_of_pictures(first: str, second: str, suffix: str) -> None:
    """One to one; and no picture is where a folder has to be for another."""
    a, b = beside(first, suffix), beside(second, suffix)
    assert (a == b) == (first == second)
    assert not f"{a}/".startswith(f"{b}/") or a == b
    assert not f"{b}/".startswith(f"{a}/") or a == b


@tried
@given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 10_000), st.integers(0, 255))
def test_a_line_of_the_journal(name: str, reason: str, place: int, byte: int) -> None:
    """It gives its record back, and no record once a byte of it has changed."""
    record = {"file_name": name or "a", "key": "0", "error": reason}
    line = Line.of(record).text.encode()
    outside = record["file_name"].startswith("/") or ".." in record["file_name"].split("/")
    assert opened(line) == (None if outside else record)
    changed = bytearray(line)
    changed[place % len(line)] = byte
    assert bytes(changed) == line or opened(bytes(changed)) is None
