from pathlib import Path

import pytest
from PIL import Image

from groundcli.data.flickr30k import load
from groundcli.errors import GroundcliError

XML = """<annotation>
    <filename>7.jpg</filename>
    <size><width>100</width><height>50</height><depth>3</depth></size>
    <object>
        <name>1</name><name>2</name>
        <bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>45</ymax></bndbox>
    </object>
    <object>
        <name>2</name>
        <bndbox><xmin>50</xmin><ymin>0</ymin><xmax>100</xmax><ymax>50</ymax></bndbox>
    </object>
    <object><name>3</name><scene>1</scene><nobndbox>1</nobndbox></object>
</annotation>"""
SENTENCES = (
    "[/EN#1/people/other A man] of [/EN#2/people a group] in [/EN#3/scene a park] .\nIt is [/EN#0/notvisual a day] .\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One validation image with annotations, and one training image without."""
    files = {
        "Flickr30k_Splits/val.txt": "7\n",
        "Flickr30k_Splits/train.txt": "8\n",
        "Flickr30k_Entities/Annotations/7.xml": XML,
        "Flickr30k_Entities/Sentences/7.txt": SENTENCES,
        "Flickr30k_Entities/Sentences/8.txt": "[/EN#1/people A man] .\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "Flickr30k_Images").mkdir()
    for name in ("7", "8"):
        Image.new("RGB", (100, 50)).save(tmp_path / f"Flickr30k_Images/{name}.jpg")
    return tmp_path


def test_phrases_carry_the_boxes_of_their_entity(root: Path) -> None:
    (sample,) = load(root, "val")
    assert sample.name == "Flickr30k_Images/7.jpg"
    assert sample.image == root / sample.name
    first, second = sample.captions
    assert first.text == "A man of a group in a park ."
    assert second.text == "It is a day ."
    man, group, park = first.phrases
    assert (man.text, man.span, man.category, man.entity) == ("A man", (0, 5), "people", "1")
    assert man.boxes == ((10, 5, 20, 40),)
    assert group.boxes == ((10, 5, 20, 40), (50, 0, 50, 50))  # an object of two entities, an entity of two objects
    assert park.boxes == ()  # a scene without a box
    assert (second.phrases[0].category, second.phrases[0].boxes) == ("notvisual", ())


def test_boxes_are_scaled_to_the_image_on_the_disk(root: Path) -> None:
    Image.new("RGB", (200, 200)).save(root / "Flickr30k_Images/7.jpg")
    assert load(root, "val")[0].captions[0].phrases[0].boxes == ((20, 20, 40, 160),)


def test_an_image_that_cannot_be_opened_is_left_to_who_decodes_it(root: Path) -> None:
    (root / "Flickr30k_Images/7.jpg").write_bytes(b"not an image")
    assert load(root, "val")[0].captions[0].phrases[0].boxes == ((10, 5, 20, 40),)


def test_training_images_have_phrases_without_boxes(root: Path) -> None:
    (phrase,) = load(root, "train")[0].captions[0].phrases
    assert (phrase.text, phrase.boxes) == ("A man", ())


@pytest.mark.parametrize(
    ("file", "content", "split", "words"),
    [
        ("Flickr30k_Splits/val.txt", None, "val", ["val.txt", "splits train"]),
        ("Flickr30k_Splits/val.txt", "7\n", "dev", ["dev.txt", "splits train, val"]),
        (
            "Flickr30k_Entities/Sentences/7.txt",
            None,
            "val",
            ["Sentences/7.txt", "published at https://bryanplummer.com"],
        ),
        ("Flickr30k_Entities/Annotations/7.xml", "<annotation>", "val", ["Annotations/7.xml"]),  # cut short
        ("Flickr30k_Entities/Annotations/7.xml", "<annotation/>", "val", ["7.xml", "no size/width"]),
        ("Flickr30k_Entities/Annotations/7.xml", XML.replace(">10<", ">ten<"), "val", ["7.xml", "ten"]),
    ],
)
def test_bad_input_is_named(root: Path, file: str, content: str | None, split: str, words: list[str]) -> None:
    if content is None:
        (root / file).unlink()
    else:
        (root / file).write_text(content)
    with pytest.raises(GroundcliError) as error:
        load(root, split)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(GroundcliError) as error:
        load(tmp_path / "nowhere", "val")
    assert "lacks Flickr30k_Images/, Flickr30k_Entities/Sentences/, Flickr30k_Splits/ (published at" in str(error.value)


def test_real_validation_split(real_data: Path) -> None:
    samples = load(real_data / "flickr30k", "val")
    captions = [caption for sample in samples for caption in sample.captions]
    phrases = [phrase for caption in captions for phrase in caption.phrases if phrase.boxes]
    assert (len(samples), len(captions), len(phrases)) == (247, 1235, 3239)
    assert all(caption.text[slice(*p.span)] == p.text for caption in captions for p in caption.phrases)
