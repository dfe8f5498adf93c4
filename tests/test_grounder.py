from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundcli import Grounder
from groundcli.data import Caption, Phrase
from groundcli.data.phrases import parse
from groundcli.errors import BadInput
from groundcli.grounder import EncodedImage
from groundcli.heat.boxes import METHODS
from groundcli.output.overlays import draw
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


def test_twice_the_same(grounder: Grounder, picture: np.ndarray) -> None:
    first, second = (grounder.ground(picture, "[a red ball]").phrases[0] for _ in range(2))
    assert np.array_equal(first.heatmap, second.heatmap)
    assert (first.point, first.boxes, first.score) == (second.point, second.boxes, second.score)


def test_boxes_by_either_way(grounder: Grounder, picture: np.ndarray) -> None:
    theirs = Grounder(grounder.model, boxes="authors").ground(picture, "[a red ball]").phrases[0]
    ours = grounder.ground(picture, "[a red ball]").phrases[0]
    assert theirs.boxes == tuple(METHODS["authors"](theirs.heatmap, (240, 180))[0])
    assert ours.boxes == tuple(METHODS["sides"](ours.heatmap, (240, 180))[0])
    x, y, width, height = ours.boxes[0]
    assert x <= ours.point[0] <= x + width
    assert y <= ours.point[1] <= y + height


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
