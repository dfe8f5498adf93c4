import json
from pathlib import Path

import pytest

from groundcli.data.coco import load, load_categories
from groundcli.errors import GroundcliError, UsageError
from tests.data.published import BALL, coco

PEOPLE = ((100, 0, 10, 20), (120, 0, 10, 20))


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


def test_the_layout_of_2014_and_a_folder_for_images(tmp_path: Path) -> None:
    name = coco(tmp_path, "val2014", folder="images")
    assert name == "COCO_val2014_000000000139.jpg"
    assert load(tmp_path, "val")[0].name == f"images/val2014/{name}"


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
