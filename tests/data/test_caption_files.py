"""Captions files of every kind, as `load` finds them beside images or is given them."""

import json
from pathlib import Path

import pytest

from groundcli.data.find import Found, load
from groundcli.errors import GroundcliError
from tests.data.files import write

IMAGES: dict[str, str | bytes] = dict.fromkeys(["cat.jpg", "dog.jpg", "sub/cow.jpg"], b"x")
COCO = {
    "images": [{"id": 7, "file_name": "dog.jpg"}, {"id": "c", "file_name": "train/cat.jpg"}, {"id": 8}, "image"],
    "annotations": [
        {"image_id": 7, "id": 1, "caption": "a dog"},
        {"image_id": "c", "id": 2, "caption": "a cat\n"},
        {"image_id": 7, "id": 3, "caption": "two\ndogs"},
    ],
}


def found(root: Path, **files: str | bytes) -> Found:
    """What is found in a folder of images with some more files; "__" stands for a dot."""
    write(root, IMAGES | {name.replace("__", "."): content for name, content in files.items()})
    return load([root])


def captions(found: Found) -> dict[str, list[str]]:
    return {sample.name: [caption.text for caption in sample.captions] for sample in found.samples}


def problems(found: Found) -> dict[str, str]:
    """Failures, but for images that nobody captioned."""
    return {f.path: f.reason for f in found.failures if not f.reason.startswith("no caption: put")}


LISTINGS = {
    "results_20130124.token": "dog.jpg#0\ta dog\ndog.jpg#1\ttwo dogs\ncat.jpg#0\ta cat\n",
    "results.txt": "dog.jpg#0\ta dog\ncat.jpg#0\ta cat\ndog.jpg#1\ttwo dogs\n",
    "captions.txt": "image,caption\ndog.jpg,a dog\ndog.jpg,two dogs\ncat.jpg,a cat\n",
    "captions.csv": 'image,caption\ndog.jpg,a dog\n"dog.jpg", "two dogs"\ncat.jpg, a cat\n',
    "results.csv": "image_name| comment_number| comment\ndog.jpg| 0| a dog\ndog.jpg| 1| two dogs\ncat.jpg| 0| a cat\n",
    "excel.csv": "Text;Filename\na dog;dog.jpg\ntwo dogs;dog.jpg\na cat;cat.jpg\n",
    "table.tsv": 'File Name\tid\tsentence\ndog.jpg\t1\ta dog\ndog.jpg\t2\t"two dogs"\ncat.jpg\t3\ta cat\n',
    "metadata.csv": "split,file_name,caption_0,caption_1\ntest,dog.jpg,a dog,two dogs\ntrain,cat.jpg,a cat,\n",
    "ids.csv": "image_id,caption\ndog,a dog\ndog,two dogs\ncat,a cat\n",
    "metadata.jsonl": (
        '{"file_name": "dog.jpg", "text": ["a dog", "two dogs"]}\n{"file_name": "cat.jpg", "text": "a cat"}\n'
    ),
    "lines.json": '{"image": "dog.jpg", "captions": ["a dog", "two dogs"]}\n{"image": "cat.jpg", "caption": "a cat"}\n',
    "bare.csv": "dog.jpg,a dog\ndog.jpg,two dogs\ncat.jpg,a cat\n",
    "bare.tsv": "1\tdog.jpg\ta dog\n2\tdog.jpg\ttwo dogs\n3\tcat.jpg\ta cat\n",
    "backwards.csv": "a dog;dog.jpg\ntwo dogs;dog.jpg\na cat;cat.jpg\n",
    "by_name.json": '{"dog.jpg": ["a dog", "two dogs"], "cat.jpg": "a cat"}',
    "dataset_flickr30k.json": json.dumps(
        {
            "dataset": "flickr30k",
            "images": [
                {"filename": "dog.jpg", "sentences": [{"raw": "a dog", "tokens": ["a"]}, {"raw": "two dogs"}]},
                {"filename": "cat.jpg", "filepath": "val2014", "sentences": [{"raw": "a cat"}]},
            ],
        }
    ),
    "list.json": json.dumps(
        [{"image": "dog.jpg", "caption": ["a dog", "two dogs"]}, {"file_name": "cat.jpg", "captions": "a cat"}],
        indent=1,
    ),
}


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_format_is_found_and_named(tmp_path: Path, name: str, line_end: str, encoding: str) -> None:
    write(tmp_path / "images", IMAGES)
    content = LISTINGS[name].replace("\n", line_end).encode(encoding)
    write(tmp_path, {f"images/{name}": content, "elsewhere": content})
    for result in (load([tmp_path / "images"]), load([tmp_path / "images"], tmp_path / "elsewhere")):
        assert captions(result) == {"cat.jpg": ["a cat"], "dog.jpg": ["a dog", "two dogs"]}
        assert not problems(result)
        assert [failure.path for failure in result.failures] == ["sub/cow.jpg"]


@pytest.mark.parametrize("indent", [None, 2])
def test_coco_captions(tmp_path: Path, indent: int | None) -> None:
    result = found(tmp_path, captions_val2017__json=json.dumps(COCO, indent=indent))
    assert captions(result) == {"cat.jpg": ["a cat"], "dog.jpg": ["a dog", "two dogs"]}
    assert problems(result).keys() == {"captions_val2017.json:images[2]", "captions_val2017.json:images[3]"}


@pytest.mark.parametrize(
    "annotation", [{"image_id": 9, "caption": "x"}, {"image_id": 7}, {"image_id": [7], "caption": "x"}, "x", None]
)
def test_a_wrong_coco_annotation_is_named(tmp_path: Path, annotation: object) -> None:
    content = {**COCO, "annotations": [annotation, *COCO["annotations"]]}
    result = found(tmp_path, captions__json=json.dumps(content))
    assert captions(result)["dog.jpg"] == ["a dog", "two dogs"]
    assert "captions.json:annotations[0]" in problems(result)


def test_entities_sentences(tmp_path: Path) -> None:
    lines = (
        "[/EN#1/people A man] with [/EN#2/other/clothing an orange hat] .\n[/EN#0/notvisual It] is [/EN#1/people he]"
    )
    write(tmp_path, {"Images/12.jpg": b"x", "Flickr30k_Entities/Sentences/12.txt": lines})
    for result in (load([tmp_path]), load([tmp_path / "Images"], tmp_path / "Flickr30k_Entities" / "Sentences")):
        first, second = result.samples[0].captions
        assert first.text == "A man with an orange hat ."
        assert [(p.text, p.entity, p.category) for p in first.phrases] == [
            ("A man", "1", "people"),
            ("an orange hat", "2", "other"),
        ]
        assert [second.text[slice(*phrase.span)] for phrase in second.phrases] == ["It", "he"]


@pytest.mark.parametrize(
    ("name", "content", "failed"),
    [
        ("a.csv", "image,caption\n\ndog.jpg,a dog\ncat.jpg\ncat.jpg,a,cat\n,a cat\n", [4, 5, 6]),
        ("a.csv", 'image,caption\ncat.jpg,"never closed\ndog.jpg,a dog\ncow.jpg,"a" b\n', [2, 4]),
        ("a.csv", b"image,caption\ncat.jpg,caf\xe9\ndog.jpg,a dog\n", [2]),
        ("a.csv", "image_name| comment_number| comment\ncat.jpg| 4   no bar .\ndog.jpg| 0| a dog\n", [2]),
        ("a.jsonl", '{"file_name": "cat.jpg"\n{"file_name": "dog.jpg", "text": "a dog"}\n[1]\n"x"\n', [1, 3, 4]),
        ("a.jsonl", '{"image": "dog.jpg", "text": "a dog"}\n{"image": 1.5, "text": "x"}\n{"text": "x"}\n', [2, 3]),
        (
            "a.jsonl",
            '{"image": "dog.jpg", "text": "a dog"}\n{"image": "cat.jpg", "text": [1]}\n' + "[" * 99_999,
            [2, 3],
        ),
        ("a.jsonl", '{"image": "dog.jpg", "text": "a dog"}\n{"image": "cat.jpg", "text": "\\ud800"}\n', [2]),
        ("a.json", '[{"image": "dog.jpg", "text": "a dog"}, {"image": "cat.jpg"}, 3]', ["[1]", "[2]"]),
        ("a.token", "dog.jpg#0\ta dog\ncat.jpg a cat\n #0\tno name\n", [2, 3]),
    ],
)
def test_wrong_lines_are_named_and_the_rest_is_used(
    tmp_path: Path, name: str, content: str | bytes, failed: list[int | str]
) -> None:
    write(tmp_path, {**IMAGES, name: content})
    result = load([tmp_path])
    assert captions(result) == {"dog.jpg": ["a dog"]}
    assert list(problems(result)) == [f"{name}:{place}" for place in failed]
    assert not any("\n" in reason for reason in problems(result).values())


@pytest.mark.parametrize(
    ("row", "caption"),
    [
        ('dog.jpg,"a dog, a ""big"" one"', 'a dog, a "big" one'),
        ('dog.jpg,a 5" dog', 'a 5" dog'),
        ('dog.jpg,"a dog\n\nand a cat"', "a dog and a cat"),  # a caption is one line
        ("dog.jpg,a #1 dog", "a #1 dog"),
        ("dog.jpg,a\tdog", "a\tdog"),
        ('"dog.jpg","一只 狗 🐕"', "一只 狗 🐕"),
        ("dog.jpg," + "very " * 999 + "long", "very " * 999 + "long"),
    ],
)
def test_captions_of_a_table(tmp_path: Path, row: str, caption: str) -> None:
    result = found(tmp_path, captions__csv=f"image,caption\n{row}\ncat.jpg,a cat\n")
    assert captions(result) == {"cat.jpg": ["a cat"], "dog.jpg": [caption]}
    assert not problems(result)


@pytest.mark.parametrize(
    ("cell", "caption"),
    [('"He" and "she"', '"He" and "she"'), ('5" long', '5" long'), ('"a ""big"" dog"', 'a "big" dog'), ('"', '"')],
)
def test_quotation_marks_where_nothing_else_needs_them(tmp_path: Path, cell: str, caption: str) -> None:
    result = found(tmp_path, a__tsv=f"image\tcaption\ndog.jpg\t{cell}\n")
    assert captions(result) == {"dog.jpg": [caption]}


@pytest.mark.parametrize("name", ["my dog (1).jpg", "собака.jpg", "a,b.jpg", "dog#1.jpg", "d'og.jpg"])
def test_names_of_files(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: b"x", "captions.csv": f'image,caption\n"{name}",a dog\n'})
    assert captions(load([tmp_path])) == {name: ["a dog"]}
    write(tmp_path, {"captions.csv": "", "a.token": f"{name}#0\ta dog\n"})
    assert captions(load([tmp_path])) == {name: ["a dog"]}


@pytest.mark.parametrize(
    ("in_file", "on_disk"),
    [
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("dog.JPG", "dog.jpg"),
        ("a\\dog.jpg", "a/dog.jpg"),
    ],
)
def test_other_spellings_of_names(tmp_path: Path, in_file: str, on_disk: str) -> None:
    write(tmp_path, {on_disk: b"x", "captions.csv": f"image,caption\n{in_file},a dog\n"})
    result = load([tmp_path])
    assert captions(result) == {on_disk: ["a dog"]}
    assert not result.failures


def test_a_sidecar_spelled_otherwise(tmp_path: Path) -> None:
    write(tmp_path, {"cafe\u0301.JPG": b"x", "caf\u00e9.TXT": "a dog"})
    assert captions(load([tmp_path])) == {"cafe\u0301.JPG": ["a dog"]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "NUL"),
        ("a dog".encode("utf-16-le"), "UTF-16"),  # without its mark
        (b"\xff\xfea", "UTF-16"),  # half a letter
        (b"\x89\xfe\x80 garbage", "not UTF-8"),
        ("a dog\ncaf\xe9\n".encode("latin-1"), "not UTF-8"),
        (b"", "empty"),
        (b"\xef\xbb\xbf\r\n \r\n", "empty"),
    ],
)
def test_sidecars_that_are_no_text(tmp_path: Path, content: bytes, says: str) -> None:
    result = found(tmp_path, dog__txt=content)
    assert not result.samples
    assert "dog.txt" in problems(result)["dog.jpg"]
    assert says in problems(result)["dog.jpg"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_sidecars(tmp_path: Path, line_end: str, encoding: str) -> None:
    lines = ["# a dog", "", 'a "big", brown\tdog', "[/EN#1/animals Ein Hündchen] läuft", "  "]
    result = found(tmp_path, dog__txt=line_end.join(lines).encode(encoding))
    assert captions(result) == {"dog.jpg": ["# a dog", 'a "big", brown\tdog', "Ein Hündchen läuft"]}


STRAYS = {
    "instances_val.json": json.dumps(
        {**COCO, "annotations": [{"image_id": 7, "bbox": [0, 0, 1, 1], "category_id": 1}]}
    ),
    "annotations.json": json.dumps({**COCO, "annotations": [{"image_id": 7}], "captions": [{"caption": "a dog"}]}),
    "annotations.jsonl": '{"file_name": "dog.jpg", "width": 1, "captions": [{"caption": "a dog", "phrases": []}]}\n',
    "results.json": '[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}]',
    "run.json": '{"version": "1", "arguments": {"captions": null, "text": "x"}}',
    "broken.json": '{"images": [',
    "deep.json": "[" * 99_999,
    "labels.csv": "image,label\ndog.jpg,dog\n",
    "boxes.csv": "dog.jpg,1,2,3,4\n",
    "empty.csv": "",
    "empty.json": "",
    "metadata.jsonl": '{"file_name": "dog.jpg", "label": 3}\n',
}


@pytest.mark.parametrize("name", STRAYS)
def test_other_files_are_passed_over_unless_they_are_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, {**IMAGES, "dog.txt": "a dog", name: STRAYS[name]})
    result = load([tmp_path])
    assert captions(result) == {"dog.jpg": ["a dog"]}
    assert not problems(result)
    with pytest.raises(
        GroundcliError, match=r"not a captions file; expected .*token.*header.*--image-column.*JSON.*COCO"
    ) as caught:
        load([tmp_path], tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_captions_cut_short_are_reported(tmp_path: Path) -> None:
    result = found(tmp_path, captions__json=json.dumps(COCO)[:-20])
    assert "not valid JSON" in problems(result)["captions.json"]
    with pytest.raises(GroundcliError, match="not valid JSON"):
        load([tmp_path], tmp_path / "captions.json")


@pytest.mark.parametrize(("content", "says"), [(b"", "empty"), (b"a\0b", "NUL"), (b"caf\xe9", "UTF-8")])
def test_a_named_file_that_cannot_be_read(tmp_path: Path, content: bytes, says: str) -> None:
    write(tmp_path, {"dog.jpg": b"x", "words.txt": content})
    with pytest.raises(GroundcliError, match=says) as caught:
        load([tmp_path], tmp_path / "words.txt")
    assert caught.value.exit_code == 3  # nothing can be done, of no image


def test_a_named_file_for_many_images(tmp_path: Path) -> None:
    write(tmp_path, {**IMAGES, "more/dog.txt": "a dog", "words.txt": "a dog"})
    assert captions(load([tmp_path], tmp_path / "more/dog.txt")) == {"dog.jpg": ["a dog"]}  # by its name
    with pytest.raises(GroundcliError, match="or a text file named as its image is"):
        load([tmp_path], tmp_path / "words.txt")


def test_a_folder_without_captions_files(tmp_path: Path) -> None:
    write(tmp_path, {**IMAGES, "texts/a.md": ""})
    with pytest.raises(GroundcliError, match="no captions files"):
        load([tmp_path], tmp_path / "texts")


# --- Tables that need to be told about, or have no header


def test_commas_of_captions_in_a_table_without_a_header(tmp_path: Path) -> None:
    result = found(tmp_path, captions__csv='dog.jpg,a dog\ncat.jpg,a cat, asleep\ndog.jpg,"a dog, too"\ncat.jpg\n')
    assert captions(result) == {"cat.jpg": ["a cat, asleep"], "dog.jpg": ["a dog", "a dog, too"]}
    assert problems(result) == {"captions.csv:4": "1 fields where the header has 2; it is left out"}


TABLE = "caption,file_name,picture,what\nwrong,cat.jpg,dog.jpg,a dog\nwrong,dog.jpg,cat.jpg,a cat\n"


def test_columns_that_are_named(tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    write(tmp_path, {**IMAGES, table.name: TABLE})
    whole = load([tmp_path], table, columns=("picture", "what"))
    assert captions(whole) == {"cat.jpg": ["a cat"], "dog.jpg": ["a dog"]}
    assert captions(load([tmp_path], table, columns=(None, "what"))) == {"cat.jpg": ["a dog"], "dog.jpg": ["a cat"]}
    assert captions(load([tmp_path], table, columns=("picture", None)))["dog.jpg"] == ["wrong"]
    said = r"captions\.csv: no table with columns 'image' and 'what'; its first line is 'c"
    with pytest.raises(GroundcliError, match=said) as caught:
        load([tmp_path], table, columns=("image", "what"))
    assert caught.value.exit_code == 3


def test_one_column_named_beside_one_that_is_known(tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    write(tmp_path, {**IMAGES, table.name: "photo,caption_0,caption_1\ndog.jpg,a dog,two dogs\n"})
    assert captions(load([tmp_path], table, columns=("photo", None))) == {"dog.jpg": ["a dog", "two dogs"]}
    for columns in (("caption_0", "caption_0"), ("photo", "caption"), (None, "caption_0")):
        with pytest.raises(GroundcliError, match="no table with columns"):
            load([tmp_path], table, columns=columns)


def test_karpathys_items_that_are_none_are_named(tmp_path: Path) -> None:
    items = [{"filename": "dog.jpg", "sentences": [{"raw": "a dog"}]}, {"filename": "cat.jpg", "sentences": ["a cat"]}]
    result = found(tmp_path, dataset__json=json.dumps({"images": items}))
    assert captions(result) == {"dog.jpg": ["a dog"]}
    reason = "not of the form {filename, sentences: [{raw}]}; it is left out"
    assert problems(result) == {"dataset.json:images[1]": reason}


# --- What is too much, or too odd: named, with the reason, and nothing else suffers


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cat.txt", "very " * 200_000 + "long", "a caption of 1,000,004 characters, 'very"),
        ("cat.txt", b"a cat\n\ncaf\xe9\n", "no caption: cat.txt: line 3: not UTF-8 text; save it as UTF-8"),
        ("a.csv", "image,caption\ncat.jpg," + "x" * 200_000, "a field of more than 131,072 characters"),
        ("a.jsonl", '{"image": "cat.jpg", "text": "a cat", "n": ' + "9" * 5000 + "}", "a number of 5,000 digits"),
        ("a.jsonl", '{"image": true, "text": "a cat"}', "its file name or its caption is no text; it is left out"),
    ],
    ids=["long", "latin-1", "field", "digits", "true"],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    others = '{"image": "dog.jpg", "text": "a dog"}\n' if name == "a.jsonl" else ""
    more = {} if others else {"dog.txt": "a dog"}
    write(tmp_path, {**IMAGES, **more, name: others + content if isinstance(content, str) else content})
    result = load([tmp_path])
    assert captions(result) == {"dog.jpg": ["a dog"]}
    (reason,) = problems(result).values()
    assert says in reason
    assert len(reason) < 200


def test_a_number_too_long_in_a_file_as_a_whole(tmp_path: Path) -> None:
    content = json.dumps([{"image": "dog.jpg", "text": "a dog", "n": 7}]).replace("7", "7" * 5000)
    result = found(tmp_path, a__json=content)
    assert problems(result) == {"a.json": "not valid JSON (a number of 5,000 digits); write it again"}


def test_a_caption_that_is_too_long_leaves_the_others_of_its_image(tmp_path: Path) -> None:
    result = found(tmp_path, dog__txt=f"a dog\n{'[a dog] ' * 3000}\ntwo dogs\n")
    assert captions(result) == {"dog.jpg": ["a dog", "two dogs"]}
    assert "a caption of 23,999 characters" in problems(result)["dog.jpg"]


def test_an_id_that_two_images_share_is_used_for_neither(tmp_path: Path) -> None:
    named = ((7, "dog.jpg"), (8, "sub/cow.jpg"), (7, "cat.jpg"))
    images = [{"id": number, "file_name": name} for number, name in named]
    annotations = [{"image_id": 7, "caption": "a dog"}, {"image_id": 8, "caption": "a cow"}]
    result = found(tmp_path, a__json=json.dumps({"images": images, "annotations": annotations}))
    assert captions(result) == {"sub/cow.jpg": ["a cow"]}
    assert problems(result)["a.json:images[2]"] == "its id 7 is another image's too; neither is used"
    assert "a.json:annotations[0]" in problems(result)


@pytest.mark.parametrize("wrong", [True, 1.0, None])
def test_true_is_no_id(tmp_path: Path, wrong: object) -> None:
    images = [{"id": 1, "file_name": "dog.jpg"}, {"id": wrong, "file_name": "cat.jpg"}]
    annotations = [{"image_id": 1, "caption": "a dog"}, {"image_id": wrong, "caption": "a cat"}]
    result = found(tmp_path, a__json=json.dumps({"images": images, "annotations": annotations}))
    assert captions(result) == {"dog.jpg": ["a dog"]}
    assert problems(result).keys() == {"a.json:images[1]", "a.json:annotations[1]"}
