import pickle
from pathlib import Path

import pytest

from groundcli.data.referit import load
from groundcli.errors import GroundcliError
from tests.data.files import write
from tests.data.published import BALL, ball, referit


def test_expressions_are_phrases(tmp_path: Path) -> None:
    referit(tmp_path)
    (sample,) = load(tmp_path, "val")
    assert sample.name == "images/saiapr_tc-12/00/images/112.jpg"
    assert sample.image == tmp_path / sample.name
    phrases = [caption.phrases[0] for caption in sample.captions]
    assert [caption.text for caption in sample.captions] == ["red ball", "the ball", "red ball"]
    assert [phrase.boxes for phrase in phrases] == [(tuple(BALL),), (tuple(BALL),), ((100, 0, 10, 20),)]
    assert {(phrase.category, phrase.span[0], phrase.text == "") for phrase in phrases} == {("ball", 0, False)}


def test_boxes_are_scaled_to_the_image_on_the_disk(tmp_path: Path) -> None:
    from PIL import Image

    referit(tmp_path)
    Image.new("RGB", (480, 90)).save(tmp_path / "images/saiapr_tc-12/00/images/112.jpg")
    assert load(tmp_path, "val")[0].captions[0].phrases[0].boxes == ((40, 15, 120, 30),)


@pytest.mark.parametrize(
    ("split", "images"),
    [
        ("test", ["12345.jpg"]),  # berkeley's
        ("berkeley/test", ["12345.jpg"]),
        ("unc/test", ["12345.jpg"]),
        ("unc/testA", ["12345.jpg"]),
        ("unc/testAB", ["12345.jpg"]),
        ("unc/val", ["112.jpg"]),
        ("testA", None),  # berkeley has none
        ("unc/testC", None),
        ("tes", None),
    ],
)
def test_splits(tmp_path: Path, split: str, images: list[str] | None) -> None:
    referit(tmp_path)
    referit(tmp_path, owner="unc")
    if images is None:
        with pytest.raises(GroundcliError, match=r"refs\(\w+\)\.p: no expressions of the split \w+; it has the splits"):
            load(tmp_path, split)
    else:
        assert [sample.image.name for sample in load(tmp_path, split)] == images


def test_only_the_other_list_is_there(tmp_path: Path) -> None:
    referit(tmp_path, owner="unc")
    assert len(load(tmp_path, "testB")) == 1


def test_folders_may_be_left_out(tmp_path: Path) -> None:
    referit(tmp_path, folder=".")
    (tmp_path / "images/saiapr_tc-12").rename(tmp_path / "saiapr_tc-12")
    assert load(tmp_path, "val")[0].name == "saiapr_tc-12/00/images/112.jpg"


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    ball(tmp_path / "images/a.jpg")
    with pytest.raises(GroundcliError) as error:
        load(tmp_path, "val")
    assert str(error.value) == (
        f"{tmp_path}: lacks refclef/refs(berkeley).p, refclef/instances.json, images/saiapr_tc-12/ "
        "(published at https://github.com/lichengunc/refer)"
    )


@pytest.mark.parametrize(
    ("refs", "words"),
    [
        (3, "not RefClef's expressions"),
        ([{"split": "val"}], "no 'sentences'"),
        ([{"split": "val", "sentences": [], "category_id": 3, "ann_id": 77}], "no 77"),
    ],
)
def test_bad_expressions_are_named(tmp_path: Path, refs: object, words: str) -> None:
    referit(tmp_path)
    write(tmp_path, {"refclef/refs(berkeley).p": pickle.dumps(refs, protocol=2)})
    with pytest.raises(GroundcliError, match=words):
        load(tmp_path, "val")
