from pathlib import Path

import pytest
from PIL import Image

from groundcli.data.visual_genome import load
from groundcli.errors import GroundcliError
from tests.data.files import write
from tests.data.published import visual_genome


@pytest.fixture
def root(tmp_path: Path) -> Path:
    visual_genome(tmp_path)
    return tmp_path


def test_regions_are_phrases_with_boxes_in_the_files_size(root: Path) -> None:
    first, second = load(root, "all")
    assert (first.name, second.name) == ("VG_100K_2/1.jpg", "VG_100K/2.jpg")
    assert first.image == root / "VG_100K_2/1.jpg"
    ball, wall, sky = first.captions  # ten words are too many, none too few
    assert (ball.text, ball.phrases[0].text, ball.phrases[0].span) == ("a red ball", "a red ball", (0, 10))
    assert ball.phrases[0].boxes == ((20, 30, 60, 60), (0, 0, 10, 10))  # equal phrases, half the stated size
    assert wall.phrases[0].boxes == ((0, 5, 240, 20),)  # clamped on both sides
    assert sky.phrases[0].boxes == ()  # wholly outside


def test_a_split_is_a_list_of_ids(root: Path) -> None:
    assert [sample.name for sample in load(root, "one")] == ["VG_100K/2.jpg"]
    write(root, {"splits/both.txt": "2 1 2 99\n"})
    assert [sample.name for sample in load(root, "both")] == ["VG_100K/2.jpg", "VG_100K_2/1.jpg"]
    with pytest.raises(GroundcliError, match=r"test\.txt: no such file; this folder has the splits all, both, one"):
        load(root, "test")


def test_no_image_is_opened_before_it_is_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    really = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **more: opened.append(path.name) or really(path, **more))
    samples = load(root, "all")
    assert (len(samples), len(samples[1:]), opened) == (2, 1, [])
    assert samples[1:][0].name == "VG_100K/2.jpg"
    assert opened == ["2.jpg"]


def test_an_image_that_is_missing_is_left_to_who_decodes_it(root: Path) -> None:
    (root / "VG_100K/2.jpg").unlink()
    (sample,) = load(root, "one")
    assert (sample.name, sample.captions[0].phrases[0].boxes) == ("VG_100K/2.jpg", ((40, 60, 120, 120),))


def test_one_folder_of_images_is_enough(root: Path) -> None:
    (root / "VG_100K/2.jpg").rename(root / "VG_100K_2/2.jpg")
    (root / "VG_100K").rmdir()
    assert [sample.name for sample in load(root, "all")] == ["VG_100K_2/1.jpg", "VG_100K_2/2.jpg"]


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        GroundcliError, match=r"lacks region_descriptions\.json, image_data\.json, VG_100K/ \(published"
    ):
        load(tmp_path, "all")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("region_descriptions.json", '[{"id": 1, "regions": [', "not Visual Genome's region descriptions"),
        ("region_descriptions.json", '[{"id": 1}]', "no 'regions'"),
        ("region_descriptions.json", '[{"id": 1, "regions": [{"phrase": "a"}]}]', "no 'x'"),
        (
            "region_descriptions.json",
            '[{"id": 1, "regions": [{"phrase": "a", "x": "left", "y": 1, "width": 2, "height": 3}]}]',
            "left",
        ),
        ("region_descriptions.json", '[{"id": 9, "regions": []}]', "none of the images of the split all"),
        ("image_data.json", "{}", "none of the images of the split all"),
        ("image_data.json", '[{"image_id": 1}]', "no 'width'"),
        ("image_data.json", '[{"image_id": 1, "width": 0, "height": 9}]', "an image of 0 x 9 pixels"),
    ],
)
def test_bad_files_are_named(root: Path, file: str, content: str, words: str) -> None:
    (root / file).write_text(content)
    with pytest.raises(GroundcliError, match=words):
        load(root, "all")


def test_a_list_of_something_else(root: Path) -> None:
    write(root, {"splits/names.txt": "1.jpg\n"})
    with pytest.raises(GroundcliError, match=r"names\.txt: not a list of image ids"):
        load(root, "names")
