import numpy as np
import pytest
from PIL import Image

from groundcli import Grounder
from groundcli.data.markup import parse
from groundcli.errors import BadInput
from groundcli.heat.boxes import METHODS
from tests.shapes import draw_shape


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    return Grounder.load("lite")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.asarray(draw_shape("red", "circle", (150, 20)))


def test_four_lines_of_python(grounder: Grounder, tmp_path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "street.png")
    answer = grounder.ground(tmp_path / "street.png", "[a red ball] beside [nothing at all]")
    assert answer.caption == "a red ball beside nothing at all"
    assert answer.size == (240, 180)
    assert [phrase.text for phrase in answer.phrases] == ["a red ball", "nothing at all"]
    for phrase in answer.phrases:
        assert answer.caption[slice(*phrase.span)] == phrase.text
        assert phrase.heatmap.shape == (28, 28)
        assert phrase.heatmap.min() >= 0
        assert 0 <= phrase.score <= 1
        assert len(phrase.boxes) == len(phrase.box_scores)


def test_noun_phrases_where_none_is_marked(grounder: Grounder, picture: np.ndarray) -> None:
    answer = grounder.ground(picture, "A red ball lies on the grey floor.")
    assert [phrase.text for phrase in answer.phrases] == ["A red ball", "the grey floor"]


def test_an_image_is_encoded_once_for_all_captions(grounder: Grounder, picture: np.ndarray) -> None:
    encoded = grounder.encode(picture)
    captions = [parse("[a red ball]"), parse("no phrase"), parse("[the floor] under [a ball]")]
    together = grounder.ground_captions(encoded, captions)
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


@pytest.mark.parametrize("caption", ["", "...", "[!]", "[ ]"])
def test_captions_without_words(grounder: Grounder, picture: np.ndarray, caption: str) -> None:
    answer = grounder.ground(picture, caption, "marked")
    assert len(answer.phrases) == (1 if caption == "[!]" else 0)


def test_a_file_that_is_no_image(grounder: Grounder, tmp_path) -> None:
    (tmp_path / "x.jpg").write_text("no image")
    with pytest.raises(BadInput, match=r"x.jpg"):
        grounder.ground(tmp_path / "x.jpg", "[a dog]")
