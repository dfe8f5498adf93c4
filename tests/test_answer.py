"""What `answer` reads off heat maps that are known, and what an answer becomes."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import supervision
from PIL import Image
from pycocotools.coco import COCO

from groundcli import heat
from groundcli.answer import Answer, PhraseHeat, Reading, answer
from groundcli.data.phrases import parse
from groundcli.errors import BadInput, GroundcliError
from groundcli.heat import EVIDENCE, features, probability
from groundcli.heat.boxes import METHODS, MULTIPLES
from groundcli.output import FORMATS
from groundcli.output.overlays import draw
from groundcli.output.record import record_of

SIZE = (60, 40)
CALIBRATION = (0.5, 1.0, 2.0)


def heat_at(row: int, column: int) -> np.ndarray:
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[row, column] = 0.7
    return heat


CAPTIONS = [parse("[a dog] by [a tree]"), parse("nothing"), parse("[a cat]")]
MAPS = np.stack([heat_at(0, 3), heat_at(3, 0), np.zeros((4, 4), np.float32)])
FOUND = PhraseHeat(
    MAPS, np.array([0.5, 0.25, 0], np.float32), np.array([2, 1, 0]), np.zeros((3, 0), np.float32), MAPS[:, :0]
)
BOXED = Reading(boxes="sides")


def test_phrases_get_their_heat_caption_by_caption() -> None:
    answers = answer(CAPTIONS, SIZE, FOUND, BOXED)
    assert [one.caption for one in answers] == ["a dog by a tree", "nothing", "a cat"]
    assert [one.size for one in answers] == [SIZE] * 3
    assert [[phrase.text for phrase in one.phrases] for one in answers] == [["a dog", "a tree"], [], ["a cat"]]
    phrases = [phrase for one in answers for phrase in one.phrases]
    assert [phrase.span for phrase in phrases] == [(0, 5), (9, 15), (0, 5)]
    # The first pixel past the centre of the hot cell: cells are 15 x 10 pixels. x before y.
    assert [phrase.point for phrase in phrases] == [(52, 0), (0, 35), None]
    assert [phrase.reason for phrase in phrases] == ["", "", "no heat"]
    assert [phrase.level for phrase in phrases] == [2, 1, 0]
    assert [phrase.score for phrase in phrases] == [0.5, 0.25, 0]
    for phrase, heatmap in zip(phrases, MAPS, strict=True):
        assert np.array_equal(phrase.heatmap, heatmap)
        assert phrase.size == SIZE


@pytest.mark.parametrize("method", METHODS)
def test_boxes_are_those_of_the_method(method: str) -> None:
    extents = np.maximum(MAPS / MAPS.max((1, 2), keepdims=True).clip(1e-9), 0.4).astype(np.float32)
    for found in (FOUND, FOUND._replace(extents=extents)):
        phrases = [p for one in answer(CAPTIONS, SIZE, found, Reading(boxes=method)) for p in one.phrases]
        for phrase, extent in zip(phrases[:2], found.extents, strict=False):
            known = METHODS["sides" if method == "extents" and not extent.size else method]
            of = extent if method == "extents" and extent.size else phrase.heatmap
            ((boxes, scores),) = known(of[None], SIZE)
            assert boxes
            assert (phrase.boxes, phrase.box_scores) == (tuple(boxes), tuple(scores))
        assert phrases[2].boxes == ()


def test_what_a_thing_covers_gives_its_boxes() -> None:
    """A heat map that is hot in one cell, of a thing that fills the image."""
    extents = np.zeros((3, 4, 4), np.float32)
    extents[0, :, :2], extents[0, 0, 3] = 0.8, 1
    extents[0, :, 2:] = 0.9
    dog = answer(CAPTIONS, SIZE, FOUND._replace(extents=extents), Reading(boxes="extents"))[0].phrases[0]
    assert dog.boxes[0] == (0, 0, 60, 40)
    assert dog.point == (52, 0)


def test_points_alone() -> None:
    for one in answer(CAPTIONS, SIZE, FOUND, Reading()):
        assert [(phrase.boxes, phrase.box_scores) for phrase in one.phrases] == [((), ())] * len(one.phrases)


def test_scores_are_probabilities_where_the_weights_are_calibrated() -> None:
    phrases = [phrase for one in answer(CAPTIONS, SIZE, FOUND, Reading(CALIBRATION)) for phrase in one.phrases]
    likely = probability(features(MAPS), CALIBRATION)
    assert 0 < likely[0] < 1
    assert [phrase.score for phrase in phrases] == [*likely[:2], 0]


def test_heat_without_a_score_is_nothing_found() -> None:
    found = FOUND._replace(scores=np.zeros(3, np.float32))
    assert [p.score for one in answer(CAPTIONS, SIZE, found, Reading(CALIBRATION)) for p in one.phrases] == [0, 0, 0]


def test_a_score_under_the_least_one_is_not_found() -> None:
    dog, tree, _ = (
        p for one in answer(CAPTIONS, SIZE, FOUND, Reading(boxes="sides", min_score=0.4)) for p in one.phrases
    )
    assert dog.found
    assert (dog.point, len(dog.boxes), dog.reason) == ((52, 0), 5, "")
    assert not tree.found
    assert (tree.point, tree.boxes, tree.box_scores, tree.score) == (None, (), (), 0.25)
    assert (tree.mask, tree.xyxy, tree.heat()) == (None, None, None)
    assert tree.reason == "its score 0.25 is under 0.4"


def test_the_mask_is_of_the_image() -> None:
    dog = answer(CAPTIONS, SIZE, FOUND, BOXED)[0].phrases[0]
    assert dog.mask.shape == (40, 60)
    assert dog.mask[2, 57]
    rows, columns = np.nonzero(dog.mask)
    x, y, width, height = dog.boxes[0]  # the mask fills its box from side to side
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + width, y + height)


def test_evidence_counts_where_the_weights_have_factors_for_it() -> None:
    evidence = np.zeros((3, len(EVIDENCE)), np.float32)
    evidence[1, 0] = 2
    factors = np.zeros(len(EVIDENCE))
    factors[0] = 1.5
    found = FOUND._replace(evidence=evidence)
    dog, tree, cat = (p for a in answer(CAPTIONS, SIZE, found, Reading((*CALIBRATION, *factors))) for p in a.phrases)
    plain = probability(features(MAPS), CALIBRATION)
    assert dog.score == pytest.approx(plain[0])
    odds = np.log(plain[1] / (1 - plain[1]))
    assert tree.score == pytest.approx(1 / (1 + np.exp(-(odds + 3))))
    assert cat.score == 0


def test_scores_of_boxes_are_probabilities_where_the_weights_are_calibrated() -> None:
    ranks = [2.0, 1.0, 0.0, -1.0, -2.0]
    sure, unsure = (
        answer(CAPTIONS, SIZE, FOUND, Reading((constant, 0, 0), (0.0, 1.0, 0.0, 0.0, *ranks), "sides"))[0].phrases[0]
        for constant in (3.0, -3.0)
    )
    for phrase, odds in ((sure, 3.0), (unsure, -3.0)):  # those of the phrase, and of each box's rank
        assert phrase.box_scores == pytest.approx([1 / (1 + np.exp(-(odds + rank))) for rank in ranks])
    assert sure.boxes == unsure.boxes
    assert len(sure.boxes) == len(MULTIPLES)


def test_no_captions() -> None:
    nothing = PhraseHeat(*(values[:0] for values in FOUND))
    assert answer([], SIZE, nothing, BOXED) == []
    assert answer([], SIZE, nothing, Reading(CALIBRATION)) == []


# --- What an answer becomes


@pytest.fixture
def picture() -> Image.Image:
    return Image.new("RGB", SIZE, (150, 150, 150))


@pytest.fixture
def said(picture: Image.Image) -> Answer:
    """Two phrases that were found, and one that wasn't."""
    first, *others = answer(CAPTIONS, SIZE, FOUND, BOXED, picture)
    return first.followed_by(others)


def test_several_captions_joined(said: Answer, picture: Image.Image) -> None:
    assert (said.caption, said.size, said.image) == ("a dog by a tree, nothing, a cat", SIZE, picture)
    assert [said.caption[slice(*phrase.span)] for phrase in said.phrases] == ["a dog", "a tree", "a cat"]
    assert said.followed_by([]) == said
    spaced = said.followed_by([said], "  ·  ")
    assert spaced.caption == f"{said.caption}  ·  {said.caption}"
    assert [spaced.caption[slice(*phrase.span)] for phrase in spaced.phrases] == ["a dog", "a tree", "a cat"] * 2


def test_corners(said: Answer) -> None:
    for phrase, count in zip(said.phrases[:2], (5, 5), strict=True):
        assert phrase.xyxy.shape == (count, 4)
        for (left, top, right, bottom), (x, y, width, height) in zip(phrase.xyxy.tolist(), phrase.boxes, strict=True):
            assert (left, top) == (x, y)
            assert (right, bottom) == (x + width, y + height)


def test_heat_at_a_size(said: Answer) -> None:
    phrase = said.phrases[0]
    assert np.array_equal(phrase.heat(), heat.resize(phrase.heatmap, SIZE))
    assert np.array_equal(phrase.heat((7, 5)), heat.resize(phrase.heatmap, (7, 5)))
    assert phrase.heat().shape == (40, 60)
    assert phrase.heat().flags.c_contiguous


def test_as_a_dictionary(said: Answer) -> None:
    plain = said.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    dog, _, cat = plain.pop("phrases")
    assert plain == {"caption": "a dog by a tree, nothing, a cat", "width": 60, "height": 40}
    boxes = dog.pop("boxes")
    assert dog == {"text": "a dog", "span": [0, 5], "point": [52, 0], "score": 0.5, "level": 2, "found": True}
    assert [box["bbox"] for box in boxes] == np.round(said.phrases[0].boxes, 2).tolist()
    assert [box["score"] for box in boxes] == list(said.phrases[0].box_scores)
    nothing = {"point": None, "boxes": [], "score": 0, "level": 0, "found": False}
    assert cat == {"text": "a cat", "span": [26, 31], **nothing}


def test_as_coco(said: Answer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as `annotations.json` of a run, where the image is the first."""
    with FORMATS["coco"].write(tmp_path, str.lower) as write:
        write(record_of("a.jpg", [said], SIZE))
    assert said.to_coco(1, "a.jpg") == json.loads((tmp_path / "annotations.json").read_text())
    assert Answer("", SIZE, (), Path("some/a.jpg")).to_coco()["images"][0]["file_name"] == "a.jpg"
    (tmp_path / "seventh.json").write_text(json.dumps(said.to_coco(7)))
    coco = COCO(tmp_path / "seventh.json")
    assert coco.getImgIds() == [7]
    assert [coco.anns[i]["phrase"] for i in coco.getAnnIds(imgIds=[7])] == ["a dog", "a tree"]
    assert {caption["image_id"] for caption in coco.dataset["captions"]} == {7}


def test_as_detections(said: Answer) -> None:
    detections = said.to_supervision()
    assert detections.data["class_name"].tolist() == ["a dog", "a tree"]  # a phrase without a box is none
    assert detections.confidence.tolist() == [0.5, 0.25]
    assert np.array_equal(detections.xyxy, [phrase.xyxy[0] for phrase in said.phrases[:2]])
    assert np.array_equal(detections.mask, [phrase.mask for phrase in said.phrases[:2]])
    nothing = Answer("", SIZE, ()).to_supervision()
    assert (type(nothing), len(nothing)) == (supervision.Detections, 0)


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".JPG", "JPEG"), (".webp", "WEBP")])
def test_its_picture_is_saved(said: Answer, picture: Image.Image, tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"overlay{suffix}"
    said.save(path)
    with Image.open(path) as saved:
        assert saved.format == kind
        difference = np.asarray(saved.convert("RGB")).astype(int) - np.asarray(draw(picture, [said]))
    assert abs(difference).mean() < 3
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_notebook_shows_the_picture(said: Answer, picture: Image.Image) -> None:
    with Image.open(BytesIO(said._repr_png_() or b"")) as shown:
        assert shown.tobytes() == draw(picture, [said]).tobytes()
    assert Answer("", SIZE, ())._repr_png_() is None


def test_where_it_cannot_be_saved_it_says_why(said: Answer, tmp_path: Path) -> None:
    with pytest.raises(GroundcliError, match=r"overlay\.xyz: no format of pictures; name it \.jpg or \.png"):
        said.save(tmp_path / "overlay.xyz")
    with pytest.raises(GroundcliError, match=r"overlay\.png: can't be written \(No such file or directory\)"):
        said.save(tmp_path / "nowhere" / "overlay.png")
    with pytest.raises(GroundcliError, match="no image to draw on"):
        Answer("", SIZE, ()).save(tmp_path / "overlay.png")
    with pytest.raises(BadInput, match="no such file"):
        Answer("", SIZE, (), tmp_path / "gone.jpg").save(tmp_path / "overlay.png")
    assert not [*tmp_path.iterdir()]


def test_one_line_says_what_was_found(said: Answer) -> None:
    assert repr(said) == (
        "<Answer 'a dog by a tree, nothing, a cat' on 60 x 40 pixels: 'a dog' 0.50, 'a tree' 0.25, 'a cat' not found>"
    )
    assert repr(said.phrases[0]) == "<GroundedPhrase 'a dog' at (52, 0), score 0.50>"
    assert repr(said.phrases[2]) == "<GroundedPhrase 'a cat' not found: no heat>"
    assert repr(Answer("w" * 99, SIZE, ())) == f"<Answer '{'w' * 39}…' on 60 x 40 pixels: no phrases>"
    many = Answer("x", SIZE, said.phrases * 3)
    assert repr(many).endswith("'a dog' 0.50, 'a tree' 0.25, 'a cat' not found, ...>")
