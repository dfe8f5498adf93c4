import json
from pathlib import Path
from typing import Any

import pytest

from groundcli.data.boxed_folder import load
from groundcli.errors import GroundcliError
from tests.data.published import BALL, ball, write_json

CAPTION = "A red ball on the red floor"


def annotated(root: Path, *annotations: dict[str, Any], **more: object) -> None:
    """A folder with one picture and `truth.json`."""
    content = {
        "images": [{"id": 1, "file_name": "sub/a.jpg", "width": 240, "height": 180}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 1, **own} for i, own in enumerate(annotations)],
        "captions": [{"id": 7, "image_id": 1, "caption": CAPTION}],
        "categories": [{"id": 1, "name": "ball", "supercategory": "toys"}],
    }
    write_json(root, {"truth.json": content | more})
    ball(root / "sub/a.jpg")


def test_phrases_lie_in_their_captions(tmp_path: Path) -> None:
    annotated(
        tmp_path,
        {"phrase": "A red ball", "caption_id": 7, "span": [0, 10], "bbox": BALL, "boxes": [{"bbox": [0, 0, 1, 1]}]},
        {"phrase": "the red floor", "caption_id": 7, "bbox": [0, 90, 240, 90]},  # a tool dropped the span
        {"phrase": "A red ball", "caption_id": 7, "span": [0, 10], "bbox": [1, 2, 3, 4]},
    )
    (sample,) = load(tmp_path, "truth")
    assert (sample.name, sample.image) == ("sub/a.jpg", tmp_path / "sub/a.jpg")
    (caption,) = sample.captions
    assert caption.text == CAPTION
    red, floor = caption.phrases
    assert (red.text, red.span, red.category, red.boxes) == ("A red ball", (0, 10), "toys", (tuple(BALL), (1, 2, 3, 4)))
    assert (floor.text, floor.span, floor.boxes) == ("the red floor", (14, 27), ((0, 90, 240, 90),))


@pytest.mark.parametrize(
    ("annotation", "text", "boxes"),
    [
        ({"phrase": "a ball", "bbox": [1, 2, 3, 4]}, "a ball", 1),  # no caption_id
        ({"phrase": "a ball", "caption_id": 8, "bbox": [1, 2, 3, 4]}, "a ball", 1),  # no such caption
        ({"phrase": "a blue ball", "caption_id": 7, "span": [0, 11], "bbox": [1, 2, 3, 4]}, "a blue ball", 1),  # edited
        ({"bbox": [1, 2, 3, 4]}, "ball", 1),  # no phrase: the category's name
        ({"phrase": "a ball", "bbox": []}, "a ball", 0),
        ({"phrase": "a ball", "bbox": [1, 2, 3, 4], "iscrowd": 1}, "a ball", 0),
    ],
)
def test_a_phrase_outside_a_caption_is_its_own(
    tmp_path: Path, annotation: dict[str, Any], text: str, boxes: int
) -> None:
    annotated(tmp_path, annotation)
    (caption,) = load(tmp_path, "truth")[0].captions
    (phrase,) = caption.phrases
    assert (caption.text, phrase.text, phrase.span) == (text, text, (0, len(text)))
    assert len(phrase.boxes) == boxes


def test_plain_coco_detections(tmp_path: Path) -> None:
    annotated(tmp_path, {"bbox": BALL}, {"bbox": [1, 2, 3, 4]}, categories=[{"id": 1, "name": "ball"}], captions=[])
    (caption,) = load(tmp_path, "truth")[0].captions
    assert (caption.text, caption.phrases[0].category) == ("ball", "ball")
    assert caption.phrases[0].boxes == (tuple(BALL), (1, 2, 3, 4))


def test_a_missing_file_says_what_is_there(tmp_path: Path) -> None:
    annotated(tmp_path)
    with pytest.raises(GroundcliError, match=r"val\.json: no such file; this folder has --split truth"):
        load(tmp_path, "val")
    with pytest.raises(GroundcliError, match=r"val\.json: no such file; put COCO annotations there"):
        load(tmp_path / "sub", "val")


def test_annotations_without_their_images(tmp_path: Path) -> None:
    annotated(tmp_path, {"bbox": BALL})
    (tmp_path / "sub/a.jpg").unlink()
    with pytest.raises(GroundcliError, match=r"truth\.json: none of its 1 images is in .*; put it beside the images"):
        load(tmp_path, "truth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": []}, "no 'annotations'"),
        ({"images": [], "annotations": [{}], "categories": []}, "no 'image_id'"),
        ({"images": [], "annotations": [], "categories": [], "captions": 3}, "not COCO annotations"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: object, words: str) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(content))
    with pytest.raises(GroundcliError, match=words):
        load(tmp_path, "truth")
