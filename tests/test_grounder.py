import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from groundcli import Grounder, checkpoint
from groundcli.data import Caption, Phrase
from groundcli.data.phrases import parse
from groundcli.errors import BadInput, GroundcliError, UsageError
from groundcli.grounder import EncodedImage
from groundcli.heat.boxes import METHODS
from groundcli.output.overlays import draw
from groundcli.weights.store import SHIPPED
from tests.cli.conftest import Run
from tests.cli.conftest import groundcli as groundcli
from tests.shapes import draw_shape

SHAPE = ("red", "circle", (150, 20))


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    return Grounder.load("lite", min_score=0)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.asarray(draw_shape(*SHAPE))


@pytest.fixture(scope="module")
def encoded(grounder: Grounder, picture: np.ndarray) -> EncodedImage:
    return grounder.encode(picture)


def test_four_lines_of_python(grounder: Grounder, tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "street.png")
    answer = grounder.ground(tmp_path / "street.png", "[a red ball] beside [nothing at all]")
    assert answer.caption == "a red ball beside nothing at all"
    assert answer.size == (240, 180)
    assert [phrase.text for phrase in answer.phrases] == ["a red ball", "nothing at all"]
    for phrase in answer.phrases:
        assert answer.caption[slice(*phrase.span)] == phrase.text
        assert phrase.size == (240, 180)
        assert phrase.heatmap.shape == (28, 28)
        assert phrase.heatmap.min() >= 0
        assert 0 <= phrase.score <= 1
        assert len(phrase.boxes) == len(phrase.box_scores) == 5
        assert phrase.mask.shape == (180, 240)
    x, y = answer.phrases[0].point
    assert 150 <= x < 210
    assert 20 <= y < 80


def test_noun_phrases_where_none_is_marked(grounder: Grounder, picture: np.ndarray) -> None:
    answer = grounder.ground(picture, "A red ball lies on the grey floor.")
    assert [phrase.text for phrase in answer.phrases] == ["A red ball", "the grey floor"]


@pytest.mark.slow
def test_an_image_is_encoded_once_for_all_captions(
    grounder: Grounder, encoded: EncodedImage, picture: np.ndarray
) -> None:
    captions = [parse("[a red ball]"), parse("no phrase"), parse("[the floor] under [a ball]")]
    together = grounder.ground_captions(encoded, captions)
    assert [len(answer.phrases) for answer in together] == [1, 0, 2]
    for caption, answer in zip(captions, together, strict=True):
        alone = grounder.ground(picture, caption, "marked")
        assert [p.point for p in alone.phrases] == [p.point for p in answer.phrases]
        for a, b in zip(alone.phrases, answer.phrases, strict=True):
            np.testing.assert_allclose(a.heatmap, b.heatmap, atol=1e-5)


def test_captions_of_one_text_have_phrases_of_their_own(grounder: Grounder, encoded: EncodedImage) -> None:
    """Phrases that overlap, too: words are looked for once, whoever has them."""
    text = "a red ball lies beside a dog"
    spans = [(0, 10), (2, 10), (23, 28), (23, 28)]
    captions = [Caption(text, (Phrase(text[a:b], (a, b)),)) for a, b in spans]
    together = grounder.ground_captions(encoded, [captions[0], parse("[a dog]"), *captions[1:]])
    for caption, answer in zip(captions, [together[0], *together[2:]], strict=True):
        (alone,), (beside,) = grounder.ground_captions(encoded, [caption])[0].phrases, answer.phrases
        np.testing.assert_allclose(alone.heatmap, beside.heatmap, atol=1e-6)
        assert alone.score == pytest.approx(beside.score, abs=1e-6)
        assert (alone.point, alone.boxes) == (beside.point, beside.boxes)


def test_words_that_are_not_kept_any_more_are_looked_up_again(
    encoded: EncodedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = [parse(f"[a {color} {thing}]") for color in ("red", "green", "blue") for thing in ("ball", "dog", "cat")]
    maps = []
    for limit in (1 << 13, 4):
        monkeypatch.setattr("groundcli.grounder.KEPT", limit)
        grounder = Grounder.load("lite", min_score=0)
        for _ in range(2):
            maps.append(np.concatenate([grounder.phrase_heat(encoded, [caption]).maps for caption in captions]))
    for other in maps[1:]:
        np.testing.assert_allclose(maps[0], other, atol=1e-6)


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_word_is_looked_for_once_and_counts_as_often_as_a_phrase_says_it(
    runtime: Any, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    grounder = Grounder.load("lite", min_score=0, runtime=runtime)
    encoded, heat, asked = grounder.encode(picture), grounder.runtime.heat, []

    def watched(cells: Any, words: Any, *phrases: np.ndarray) -> Any:
        asked.append(len(words))
        return heat(cells, words, *phrases)

    monkeypatch.setattr(grounder.runtime, "heat", watched)
    captions = [
        parse("[a ball] on [a floor]"),
        parse("[a red floor]"),
        parse("[ball ball floor]"),
        parse("[ball floor]"),
    ]
    answers = grounder.ground_captions(encoded, captions)
    assert asked == [5]  # a, ball, floor, red, another ball
    *_, (twice,), (once,) = (answer.phrases for answer in answers)
    assert np.abs(twice.heatmap - once.heatmap).max() > 0.001
    for caption, answer in zip(captions, answers, strict=True):
        (alone,) = grounder.ground_captions(encoded, [caption])
        for ours, its in zip(answer.phrases, alone.phrases, strict=True):
            np.testing.assert_allclose(ours.heatmap, its.heatmap, atol=1e-6)


def test_twice_the_same(grounder: Grounder, picture: np.ndarray) -> None:
    first, second = (grounder.ground(picture, "[a red ball]").phrases[0] for _ in range(2))
    assert np.array_equal(first.heatmap, second.heatmap)
    assert (first.point, first.boxes, first.score) == (second.point, second.boxes, second.score)


def test_boxes_by_each_way(grounder: Grounder, picture: np.ndarray) -> None:
    theirs, sides = (
        Grounder(grounder.runtime, boxes=method).ground(picture, "[a red ball]").phrases[0]
        for method in ("authors", "sides")
    )
    ours = grounder.ground(picture, "[a red ball]").phrases[0]
    extents = grounder.phrase_heat(grounder.encode(picture), [Caption.of_phrase("a red ball")]).extents
    for phrase, method, maps in (
        (theirs, "authors", theirs.heatmap[None]),
        (sides, "sides", sides.heatmap[None]),
        (ours, "extents", extents),
    ):
        ((boxes, _),) = METHODS[method](maps, (240, 180))
        assert phrase.boxes == tuple(boxes)
    x, y, width, height = ours.boxes[0]
    assert x <= ours.point[0] <= x + width
    assert y <= ours.point[1] <= y + height


def test_how_far_things_reach_is_found_for_as_many_phrases_as_it_is_asked_for(
    grounder: Grounder, encoded: EncodedImage
) -> None:
    captions = [parse("[a red ball] beside [a dog] and [a cat]")]
    whole = grounder.phrase_heat(encoded, captions, sentences=["a ball"])
    for boxed in (0, 1, 3):
        part = grounder.phrase_heat(encoded, captions, sentences=["a ball"], boxed=boxed)
        np.testing.assert_allclose(part.maps, whole.maps, atol=1e-6)
        np.testing.assert_allclose(part.extents[:boxed], whole.extents[:boxed], atol=1e-6)
        assert whole.extents[boxed:].any((1, 2)).all()
        assert not part.extents[boxed:].any()
    assert not Grounder(grounder.runtime, boxes="sides").phrase_heat(encoded, captions).extents.any()


def test_points_alone(grounder: Grounder, encoded: EncodedImage) -> None:
    """Without boxes all else is the same."""
    captions = [parse("[a red ball]")]
    (bare,), (boxed,) = (grounder.ground_captions(encoded, captions, boxes=boxes)[0].phrases for boxes in (False, True))
    assert (bare.boxes, bare.box_scores) == ((), ())
    assert (bare.point, bare.score, bare.level) == (boxed.point, boxed.score, boxed.level)


@pytest.mark.parametrize(("caption", "count"), [("...", 0), ("[!]", 1), ("[ ]", 0)])
def test_captions_without_words(grounder: Grounder, picture: np.ndarray, caption: str, count: int) -> None:
    answer = grounder.ground(picture, caption, "marked")
    assert len(answer.phrases) == count


def test_a_phrase_without_words_is_not_found(grounder: Grounder, encoded: EncodedImage) -> None:
    (space,) = grounder.ground_captions(encoded, [Caption("a  dog", (Phrase(" ", (1, 2)),))])[0].phrases
    assert (space.found, space.score, space.boxes) == (False, 0, ())
    assert not space.heatmap.any()


def test_phrases_in_place_of_a_caption(grounder: Grounder, encoded: EncodedImage) -> None:
    wanted = ["a red ball", "the floor", "a red ball"]
    answer = grounder.ground(encoded, phrases=wanted)
    assert answer.caption == "a red ball, the floor, a red ball"
    assert [phrase.text for phrase in answer.phrases] == wanted
    assert [answer.caption[slice(*phrase.span)] for phrase in answer.phrases] == wanted
    for text, phrase in zip(wanted, answer.phrases, strict=True):
        (alone,) = grounder.ground(encoded, text, "caption").phrases
        assert (phrase.point, phrase.level) == (alone.point, alone.level)
        assert phrase.score == pytest.approx(alone.score, abs=1e-5)
    nothing = grounder.ground(encoded, phrases=[])
    assert (nothing.caption, nothing.phrases, nothing.size) == ("", (), (240, 180))


def test_neither_or_both_of_a_caption_and_phrases(grounder: Grounder, encoded: EncodedImage) -> None:
    with pytest.raises(TypeError, match="expected a caption, or a list of phrases"):
        grounder.ground(encoded)
    with pytest.raises(TypeError, match="not both"):
        grounder.ground(encoded, "a dog", phrases=["a dog"])


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_a_batch_of_none(grounder: Grounder, picture: np.ndarray, size: Any) -> None:
    with pytest.raises(UsageError, match=rf"^batch_size {size}: expected 1 or more$"):
        next(grounder.ground_batch([(picture, "a dog")], batch_size=size))


def test_half_of_a_pair_of_utf_16(grounder: Grounder, encoded: EncodedImage) -> None:
    (phrase,) = grounder.ground(encoded, "[a \ud83d dog]").phrases
    assert phrase.text == "a \ud83d dog"


def test_an_image_without_pixels(grounder: Grounder) -> None:
    skipped: list[str] = []
    pairs = [(Image.new("RGB", (0, 5)), "a dog")]
    assert [*grounder.ground_batch(pairs, skip=lambda _, error: skipped.append(str(error)))] == []
    assert skipped == ["the image has no pixels"]


@pytest.mark.parametrize("score", [-0.1, 2, float("nan")])
def test_a_least_score_that_no_phrase_can_have(score: float) -> None:
    with pytest.raises(UsageError, match=rf"^min_score {score}: expected 0 to 1$"):
        Grounder.load(min_score=score)


@pytest.mark.parametrize("wrong", ["ab", ("a.jpg",), Path("a.jpg")])
def test_what_is_no_pair(grounder: Grounder, wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"expected a pair \(image, caption\), not .*{type(wrong).__name__}"):
        next(grounder.ground_batch([wrong]))


def test_what_is_no_text(grounder: Grounder, encoded: EncodedImage, picture: np.ndarray) -> None:
    wrong: Any = ["a dog", "a cat"]
    with pytest.raises(TypeError, match=r"expected a text, not list; several phrases are phrases="):
        grounder.ground(encoded, wrong)
    with pytest.raises(TypeError, match="not list"):
        next(grounder.ground_batch([(picture, wrong)]))
    with pytest.raises(TypeError, match="not tuple"):
        grounder.ground(encoded, phrases=[("a dog",)])


def test_choices_that_do_not_exist(grounder: Grounder, encoded: EncodedImage) -> None:
    nouns: Any = "nouns"
    with pytest.raises(UsageError, match="phrases nouns: expected auto, marked, noun, words, caption"):
        grounder.ground(encoded, "a dog", nouns)
    for name in ("precision", "boxes", "runtime"):
        wrong: Any = {name: "none"}
        with pytest.raises(UsageError, match=f"{name} none: expected "):
            Grounder.load("lite", **wrong)


def test_answers_can_be_compared(grounder: Grounder, encoded: EncodedImage) -> None:
    assert grounder.ground(encoded, "[a red ball]") == grounder.ground(encoded, "[a red ball]")
    assert grounder.ground(encoded, "[a red ball]") != grounder.ground(encoded, "[a red floor]")
    assert len(repr(encoded)) < 200


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [2, 8])
def test_a_batch_gives_the_answers_of_single_images(
    grounder: Grounder, tmp_path: Path, picture: np.ndarray, batch_size: int
) -> None:
    draw_shape("blue", "square", (20, 90)).save(tmp_path / "square.png")
    (tmp_path / "broken.jpg").write_text("no image")
    pairs = [
        (picture, "[a red ball] on [the floor]"),
        (tmp_path / "broken.jpg", "a dog"),
        (tmp_path / "square.png", "a blue square"),
        (Image.fromarray(picture), "nothing here"),
    ]
    skipped: list[tuple[int, str]] = []
    batch = grounder.ground_batch(iter(pairs), batch_size=batch_size, skip=lambda i, e: skipped.append((i, str(e))))
    answers = [*batch]
    assert skipped == [(1, f"{tmp_path / 'broken.jpg'}: not an image that can be read; replace or remove it")]
    assert [answer.caption for answer in answers] == ["a red ball on the floor", "a blue square", "nothing here"]
    for answer, (image, caption) in zip(answers, [pairs[0], *pairs[2:]], strict=True):
        alone = grounder.ground(image, caption)
        assert [(p.text, p.point, p.level) for p in answer.phrases] == [
            (p.text, p.point, p.level) for p in alone.phrases
        ]
    with pytest.raises(BadInput, match=r"broken\.jpg"):
        [*grounder.ground_batch(pairs)]


def test_an_answer_draws_on_its_image(grounder: Grounder, encoded: EncodedImage, tmp_path: Path) -> None:
    answer = grounder.ground(encoded, "[a red ball]")
    answer.save(tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as saved:
        assert (saved.format, saved.tobytes()) == ("PNG", draw(draw_shape(*SHAPE), [answer]).tobytes())
    assert [path.name for path in tmp_path.iterdir()] == ["overlay.png"]


def test_a_file_that_is_no_image(grounder: Grounder, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no image")
    with pytest.raises(BadInput, match=r"x\.jpg: not an image that can be read"):
        grounder.ground(tmp_path / "x.jpg", "[a dog]")


# --- ONNX Runtime and torch


PHOTOS = Path(__file__).parents[1] / "examples/photos"
ODD = ["[!] and [a dog]", "[zzqx] under [ ] and [a Straßenbahn]", "[skateboarders], [two wheelbarrows]", "..."]
ALONE = """
import sys
from groundcli import Grounder, checkpoint
grounder = Grounder.load("lite", min_score=0)
answer = grounder.ground(sys.argv[1], sys.argv[2])
print(*(phrase.text for phrase in answer.phrases), sep="|")
print(*(name for name in ("torch", "timm", "scipy", "pandas") if name in sys.modules))
"""


def test_the_export_that_ships_is_that_of_the_weights_that_ship() -> None:
    assert Grounder.load("lite").runtime.name == "onnx"


def same(one: Grounder, other: Grounder, image: object, captions: list[str]) -> None:
    cells, others = one.encode(image), other.encode(image)
    for caption in captions:
        ours, theirs = one.ground(cells, caption), other.ground(others, caption)
        assert [(p.text, p.point, p.level, p.reason) for p in ours.phrases] == [
            (p.text, p.point, p.level, p.reason) for p in theirs.phrases
        ]
        for a, b in zip(ours.phrases, theirs.phrases, strict=True):
            np.testing.assert_allclose(a.heatmap, b.heatmap, atol=1e-4)
            np.testing.assert_allclose(a.boxes, b.boxes, atol=0.1)
            np.testing.assert_allclose([a.score, *a.box_scores], [b.score, *b.box_scores], atol=1e-4)
    sentences = one.phrase_heat(cells, [], {}, captions), other.phrase_heat(others, [], {}, captions)
    for a, b in zip(*sentences, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.fixture(scope="module")
def onnx() -> Grounder:
    return Grounder.load("lite", min_score=0, runtime="onnx")


@pytest.fixture(scope="module")
def torch() -> Grounder:
    return Grounder.load("lite", min_score=0, runtime="torch")


@pytest.mark.slow
def test_onnx_gives_the_answers_of_torch(onnx: Grounder, torch: Grounder, picture: np.ndarray) -> None:
    assert (onnx.runtime.name, torch.runtime.name) == ("onnx", "torch")
    same(onnx, torch, picture, ["[a red ball] on [the floor]", *ODD])


@pytest.mark.slow
@pytest.mark.parametrize("photo", sorted(PHOTOS.glob("*.jpg")), ids=lambda path: path.stem)
def test_onnx_gives_the_answers_of_torch_on_photographs(onnx: Grounder, torch: Grounder, photo: Path) -> None:
    same(onnx, torch, photo, [*photo.with_suffix(".txt").read_text().splitlines(), *ODD])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("caption", "phrases"),
    [("[a cat] on [the floor]", "a cat|the floor"), ("A cat lies on the grey floor.", "A cat|the grey floor")],
    ids=["marked", "noun"],
)
def test_it_starts_without_torch(caption: str, phrases: str) -> None:
    code = [sys.executable, "-c", ALONE, str(PHOTOS / "cat.jpg"), caption]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [phrases, ""], done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"settings": ["model.spread=2.0"]}, "was exported from other weights or settings than"),
        ({"precision": "bf16"}, "computes in float32 or int8; leave --precision bf16 out"),
        ({"device": "cuda:7"}, "computes on CPUs; add --device cpu, as cuda:7 may be a GPU"),
    ],
)
def test_where_an_export_is_no_use(options: dict, reason: str) -> None:
    with pytest.raises(GroundcliError, match=re.escape(reason)):
        Grounder.load("lite", runtime="onnx", **options)


@pytest.mark.slow
@pytest.mark.parametrize("photo", sorted(PHOTOS.glob("*.jpg")), ids=lambda path: path.stem)
def test_int8_sees_nearly_the_same(onnx: Grounder, photo: Path) -> None:
    int8 = Grounder.load("lite", min_score=0, precision="int8")
    cells, others = onnx.encode(photo), int8.encode(photo)
    for caption in photo.with_suffix(".txt").read_text().splitlines():
        for a, b in zip(onnx.ground(cells, caption).phrases, int8.ground(others, caption).phrases, strict=True):
            one, other = a.heatmap.ravel(), b.heatmap.ravel()
            assert 0.99 < one @ other / np.linalg.norm(one) / np.linalg.norm(other) < 1
            assert math.dist(a.point, b.point) < 0.05 * math.hypot(*a.size)
            assert a.score == pytest.approx(b.score, abs=0.05)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"runtime": "torch"}, "--precision int8: is computed by ONNX Runtime, not torch"),
        ({"device": "cuda:7"}, "--precision int8: computes on CPUs; add --device cpu, as cuda:7 may be a GPU"),
    ],
)
def test_where_int8_is_no_use(options: dict, reason: str) -> None:
    with pytest.raises(GroundcliError, match=re.escape(reason)):
        Grounder.load("lite", precision="int8", **options)


def test_settings_that_are_no_part_of_an_export_change_nothing() -> None:
    grounder = Grounder.load("lite", settings=["model.calibration=[]", "training.epochs=1"])
    assert (grounder.runtime.name, grounder.config.calibration) == ("onnx", ())


@pytest.mark.slow
def test_a_model_of_ones_own_is_exported_and_used(groundcli: Run, tmp_path: Path, picture: np.ndarray) -> None:
    """With other ways than lite: one space, the best level, neither presence nor extents, cells of length one."""
    tensors, metadata = checkpoint.load(SHIPPED / "lite.safetensors")
    metadata["recipe"]["model"] |= {"fusion": "best", "spread": 0.0, "smooth": False, "calibration": []}
    metadata["recipe"]["model"]["visual"] |= {"norm": "cell", "image_size": 96, "grid": 12}
    metadata["recipe"]["model"]["text"]["per_level"] = False
    without = ("model/presence.", "model/extent.")
    kept = {name: t for name, t in tensors.items() if not name.startswith(without) and "copies.1" not in name}
    checkpoint.save(tmp_path / "mine.safetensors", kept, metadata)
    mine = str(tmp_path / "mine.safetensors")
    with pytest.raises(GroundcliError, match="has no export beside it; make it with `groundcli weights export"):
        Grounder.load(mine, runtime="onnx")
    assert Grounder.load(mine).runtime.name == "torch"
    done = groundcli("weights", "export", mine, "--format", "onnx", "--out", tmp_path / "mine.onnx")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        *(str(tmp_path / f"mine.onnx/{name}") for name in ("image.onnx", "words.onnx", "heat.onnx", "export.json")),
        "vectors of word pieces",
    ]
    for part in (tmp_path / "mine.onnx").iterdir():
        assert str(Path(__file__).parents[1]).encode() not in part.read_bytes()
    ours, theirs = Grounder.load(mine), Grounder.load(mine, runtime="torch")
    assert (ours.runtime.name, ours.runtime.knows) == ("onnx", (False, False))
    same(ours, theirs, picture, ["[a red ball] on [the floor]", *ODD])
    with pytest.raises(GroundcliError, match=r"mine\.onnx has no image\.int8\.onnx; export it .* --int8 PHOTOS"):
        Grounder.load(mine, precision="int8")
    groundcli("weights", "export", mine, "--format", "onnx", "--out", tmp_path / "mine.onnx", "--int8", PHOTOS)
    int8, float32 = (part.stat().st_size for part in sorted((tmp_path / "mine.onnx").glob("image*")))
    assert int8 < float32 / 3
    cells, others = (Grounder.load(mine, precision=how).encode(picture).cells for how in ("float32", "int8"))
    assert 0.9 < (cells * others).sum() / np.linalg.norm(cells) / np.linalg.norm(others) < 1
    (tmp_path / "empty").mkdir()
    none = groundcli(*f"weights export {mine} --format onnx --out {tmp_path}/x --int8 {tmp_path}/empty".split(), code=3)
    assert f"{tmp_path}/empty" in none.stderr
    (tmp_path / "mine.onnx/heat.onnx").write_bytes(b"no graph")
    with pytest.raises(GroundcliError, match=r"heat\.onnx: can't be loaded .*; export it again, or add --run"):
        Grounder.load(mine).ground(picture, "[a red ball]")
    groundcli("weights", "export", mine, "--format", "onnx", "--out", tmp_path, code=2)
