import json
from pathlib import Path
from typing import Any

import pytest

from groundcli.data.coco import SYNONYMS, load, load_categories, load_folder, named_category
from groundcli.errors import GroundcliError, UsageError
from tests.data.published import BALL, ball, coco, write_json

PEOPLE = ((100, 0, 10, 20), (120, 0, 10, 20))


@pytest.mark.slow
def test_phrases_that_name_a_category_have_its_boxes(tmp_path: Path) -> None:
    name = coco(tmp_path)
    (sample,) = load(tmp_path, "val")
    assert (sample.name, sample.image) == (f"val2017/{name}", tmp_path / "val2017" / name)
    first, second = sample.captions
    assert first.text == "A red ball and two men near a bench."
    phrase, men = first.phrases  # the bench is a crowd: it has no box
    assert (phrase.text, phrase.span, phrase.category, phrase.entity) == (
        "A red ball",
        (0, 10),
        "sports",
        "sports ball",
    )
    assert phrase.boxes == (tuple(BALL),)
    assert (men.text, men.category, men.boxes) == ("two men", "person", PEOPLE)
    assert [phrase.text for phrase in second.phrases] == ["the sports ball"]  # no hot dog in the image


def test_names_of_categories(tmp_path: Path) -> None:
    coco(tmp_path)
    ball, person = load_categories(tmp_path, "val")[0].captions
    assert (ball.text, ball.phrases[0].span, ball.phrases[0].boxes) == ("sports ball", (0, 11), (tuple(BALL),))
    assert (person.text, person.phrases[0].category, person.phrases[0].boxes) == ("person", "person", PEOPLE)


def test_train_and_val_together(tmp_path: Path) -> None:
    names = coco(tmp_path, "train2017", 9), coco(tmp_path, "val2017", 139)
    samples = load(tmp_path, "trainval")
    assert [sample.name for sample in samples] == [f"train2017/{names[0]}", f"val2017/{names[1]}"]
    assert not any(caption.phrases for sample in samples for caption in sample.captions)
    assert [sample.name for sample in load(tmp_path, "train")] == [f"train2017/{names[0]}"]
    assert len(load_categories(tmp_path, "trainval")) == 2


def test_captions_to_learn_from_need_no_instances(tmp_path: Path) -> None:
    coco(tmp_path, "train2017")
    (tmp_path / "annotations/instances_train2017.json").unlink()
    assert len(load(tmp_path, "train")[0].captions) == 2


@pytest.mark.slow
def test_the_layout_of_2014_and_a_folder_for_images(tmp_path: Path) -> None:
    name = coco(tmp_path, "val2014", folder="images")
    assert name == "COCO_val2014_000000000139.jpg"
    assert load(tmp_path, "val")[0].name == f"images/val2014/{name}"


@pytest.mark.slow
def test_a_year_may_be_named(tmp_path: Path) -> None:
    coco(tmp_path, "val2014", 1), coco(tmp_path, "val2017", 2)
    assert load(tmp_path, "val")[0].name == "val2017/000000000002.jpg"
    assert load(tmp_path, "val2014")[0].name == "val2014/COCO_val2014_000000000001.jpg"


def test_an_image_without_boxes_keeps_its_captions(tmp_path: Path) -> None:
    coco(tmp_path)
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    assert [caption.phrases for caption in load(tmp_path, "val")[0].captions] == [(), ()]
    assert load_categories(tmp_path, "val") == []


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    coco(tmp_path, "train2017")
    with pytest.raises(GroundcliError) as error:
        load(tmp_path, "trainval")
    assert str(error.value) == (
        f"{tmp_path}: lacks annotations/captions_val2017.json, val2017/ "
        "(published at https://cocodataset.org/#download)"
    )


def test_an_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--split test: COCO has train, val and trainval"):
        load(tmp_path, "test")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("captions", '{"images": [', "captions_val2017.json: not COCO annotations"),  # cut short
        ("captions", "[]", "captions_val2017.json: not COCO annotations"),
        ("captions", '{"images": [], "info": {}}', "no 'annotations' where one is expected"),
        ("captions", '{"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "a"}]}', "no 'file_name'"),
        ("instances", '{"images": [], "annotations": [], "categories": {}}', "categories isn't a list"),
        (
            "instances",
            '{"images": [], "annotations": [{"bbox": [1, 2, 3, 4], "image_id": 1}], "categories": []}',
            "no '",
        ),
        ("instances", '{"images": [], "annotations": [{"bbox": [1, 2], "image_id": 1}], "categories": []}', "unpack"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, file: str, content: str, words: str) -> None:
    coco(tmp_path)
    (tmp_path / f"annotations/{file}_val2017.json").write_text(content)
    with pytest.raises(GroundcliError) as error:
        load(tmp_path, "val")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_real_photographs(real_data: Path) -> None:
    samples = load(real_data / "coco", "val")
    phrases = [phrase for sample in samples for caption in sample.captions for phrase in caption.phrases]
    assert (len(samples), sum(len(sample.captions) for sample in samples)) == (100, 500)
    assert len(phrases) > 500
    assert all(phrase.boxes and phrase.category and phrase.entity for phrase in phrases)
    assert all(c.text[slice(*p.span)] == p.text for s in samples for c in s.captions for p in c.phrases)
    named = load_categories(real_data / "coco", "val")
    boxes = [box for sample in named for caption in sample.captions for box in caption.phrases[0].boxes]
    assert len(boxes) == 978 - 11  # instances without crowds


# --- Names of categories


@pytest.mark.parametrize(
    ("phrase", "category"),
    [
        ("A man", "person"),
        ("two young women", "person"),
        ("a group of people", "person"),
        ("several children", "person"),
        ("a dog", "dog"),
        ("Dogs", "dog"),
        ("a hot dog", "hot dog"),  # two words go before one
        ("a teddy bear", "teddy bear"),
        ("a brown bear", "bear"),
        ("dog food", ""),
        ("a picture of a cat", "cat"),
        ("city buses", "bus"),
        ("two knives", "knife"),
        ("red skis", "skis"),
        ("benches", "bench"),
        ("wine glasses", "wine glass"),
        ("the sunglasses", ""),
        ("stop signs", "stop sign"),
        ("a sign", ""),
        ("a parked motorbike", "motorcycle"),
        ("scissors", "scissors"),
        ("the", ""),
        ("", ""),
    ],
)
def test_the_last_words_decide(phrase: str, category: str) -> None:
    assert named_category(phrase) == category


def test_every_name_names_itself() -> None:
    assert len(SYNONYMS) == 80
    assert {name: named_category(f"the {name}") for name in SYNONYMS} == {name: name for name in SYNONYMS}


def test_no_word_names_two_categories() -> None:
    words = [word for name, synonyms in SYNONYMS.items() for word in [name, *synonyms]]
    assert len(words) == len(set(words))


def test_names_are_those_of_the_data_set(real_data: Path) -> None:
    content = json.loads((real_data / "coco/annotations/instances_val2017.json").read_text())
    assert [category["name"] for category in content["categories"]] == list(SYNONYMS)


# --- A folder of one's own


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
    (sample,) = load_folder(tmp_path, "truth")
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
    (caption,) = load_folder(tmp_path, "truth")[0].captions
    (phrase,) = caption.phrases
    assert (caption.text, phrase.text, phrase.span) == (text, text, (0, len(text)))
    assert len(phrase.boxes) == boxes


@pytest.mark.parametrize("box", ["[NaN, 0, 1, 1]", "[0, 0, Infinity, 1]", "[0, 0, -1, 1]", f"[0, 0, 1, 1{'0' * 400}]"])
def test_what_is_no_box_is_named(tmp_path: Path, box: str) -> None:
    annotated(tmp_path, {"id": 7, "bbox": [11, 22, 33, 44]})
    truth = tmp_path / "truth.json"
    truth.write_text(truth.read_text().replace("[11, 22, 33, 44]", box))
    with pytest.raises(
        GroundcliError, match=r"truth\.json: not COCO annotations \((annotation 7: .* is no box|int too)"
    ):
        load_folder(tmp_path, "truth")


def test_plain_coco_detections(tmp_path: Path) -> None:
    annotated(tmp_path, {"bbox": BALL}, {"bbox": [1, 2, 3, 4]}, categories=[{"id": 1, "name": "ball"}], captions=[])
    (caption,) = load_folder(tmp_path, "truth")[0].captions
    assert (caption.text, caption.phrases[0].category) == ("ball", "ball")
    assert caption.phrases[0].boxes == (tuple(BALL), (1, 2, 3, 4))


def test_addresses_of_label_studio_are_names(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "http://localhost:8000/sub/a%20ball.jpg", "width": 240, "height": 180}]
    annotated(tmp_path, {"bbox": BALL}, images=images)
    ball(tmp_path / "sub/a ball.jpg")
    (sample,) = load_folder(tmp_path, "truth")
    assert (sample.name, sample.image) == ("sub/a ball.jpg", tmp_path / "sub/a ball.jpg")


def test_a_missing_file_says_what_is_there(tmp_path: Path) -> None:
    annotated(tmp_path)
    with pytest.raises(GroundcliError, match=r"val\.json: no such file; this folder has --split truth"):
        load_folder(tmp_path, "val")
    with pytest.raises(GroundcliError, match=r"val\.json: no such file; put COCO annotations there"):
        load_folder(tmp_path / "sub", "val")


def test_annotations_without_their_images(tmp_path: Path) -> None:
    annotated(tmp_path, {"bbox": BALL})
    (tmp_path / "sub/a.jpg").unlink()
    with pytest.raises(GroundcliError, match=r"truth\.json: none of its 1 images is in .*; put it beside the images"):
        load_folder(tmp_path, "truth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": []}, "no 'annotations'"),
        ({"images": [], "annotations": [{}], "categories": []}, "no 'image_id'"),
        ({"images": [], "annotations": [], "categories": [], "captions": 3}, "not COCO annotations"),
    ],
)
def test_bad_files_of_a_folder_are_named(tmp_path: Path, content: object, words: str) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(content))
    with pytest.raises(GroundcliError, match=words):
        load_folder(tmp_path, "truth")


@pytest.mark.parametrize("ids", [(1, 1), (1, True), (1, None)])
def test_images_without_an_id_of_their_own(tmp_path: Path, ids: tuple[object, object]) -> None:
    content = {"images": [{"id": number, "file_name": f"{i}.jpg"} for i, number in enumerate(ids)]}
    (tmp_path / "annotations.json").write_text(json.dumps({**content, "annotations": [], "categories": []}))
    with pytest.raises(GroundcliError, match=r"is of several images|is no id"):
        load_folder(tmp_path, "annotations")
