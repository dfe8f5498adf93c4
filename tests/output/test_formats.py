import csv
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import supervision
import yaml

from groundcli.answer import Answer, GroundedPhrase
from groundcli.data import Box
from groundcli.errors import GroundcliError
from groundcli.output import FORMATS
from groundcli.output.phrases import not_found
from groundcli.output.record import Record, record_of
from groundcli.output.yolo import check_names, label_name
from tests.shapes import SIDE, write_shapes
from tests.shapes import SIZE as SHAPES_SIZE

SIZE = (60, 40)  # width, height
COLD = np.zeros((4, 4), dtype=np.float32)
HOSTILE = [
    'a "dog", or\nso',
    "ein Ärger 😀\r\n",
    "熊 # 1",
    "back\\slash\u2028</script>&",
    "\t,;'",
    "yes",
    "- no: {x}\x7f",
]
HOSTILE_NAME = 'a folder/ü "熊", #1 %20.x.jpg'


def phrase(text: str, span: tuple[int, int], boxes: tuple[Box, ...] = ()) -> GroundedPhrase:
    scores = tuple(0.9 - 0.2 * i for i in range(len(boxes)))
    return GroundedPhrase(text, span, SIZE, (52.25, 5.0), boxes, scores, 0.61803398875, 2, COLD)


DOG = Answer("A dog runs", SIZE, (phrase("A dog", (0, 5), ((40, 2, 15, 12), (0, 0, 10, 10))),))
TWO = Answer("a dog, a bird", SIZE, (phrase("a dog", (0, 5)), phrase("a bird", (7, 13), ((1, 2, 3, 4),))))
WORDLESS = Answer("well", SIZE, ())
IMAGES = [
    ("sub/a b.jpg", [DOG, WORDLESS], SIZE),
    ("nothing.jpg", [], (7, 9)),
    ("b.jpg", [TWO], SIZE),
]


def records() -> list[Record]:
    return [{"key": "0f", "index": i, **record_of(*image)} for i, image in enumerate(IMAGES)]


def hostile() -> list[Record]:
    phrases = tuple(phrase(text, (0, len(text)), ((1, 2, 3, 4),)) for text in HOSTILE)
    return [record_of(HOSTILE_NAME, [Answer("\n".join(HOSTILE), SIZE, phrases)], SIZE)]


class Anywhere(dict[str, Path]):
    """For pictures that nobody looks at: any file will do."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Path:
        return Path(os.devnull)


def write(name: str, out: Path, images: Sequence[Record]) -> Path:
    out.mkdir(exist_ok=True)
    more = {"images": Anywhere(), "copy": True} if name == "yolo" else {}
    with FORMATS[name].write(out, str.lower, **more) as add:
        for record in images:
            add(record)
    return out


def written(out: Path) -> dict[str, bytes]:
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes().replace(bytes(out), b"OUT") for path in files}


# --- All of them


@pytest.mark.parametrize("name", FORMATS)
def test_equal_records_give_equal_bytes(tmp_path: Path, name: str) -> None:
    first, second = write(name, tmp_path / "one", records()), write(name, tmp_path / "two", records())
    write(name, second, records())  # over what is there
    assert written(first) == written(second)


@pytest.mark.parametrize("name", FORMATS)
def test_heat_maps_may_be_absent_and_are_not_written(tmp_path: Path, name: str) -> None:
    bare = records()
    for record in bare:
        for caption in record["captions"]:
            for said in caption["phrases"]:
                del said["heat"]
    first, second = write(name, tmp_path / "one", records()), write(name, tmp_path / "two", bare)
    assert written(first) == written(second)


@pytest.mark.parametrize("name", FORMATS)
def test_half_a_file_never_takes_the_place_of_another(tmp_path: Path, name: str) -> None:
    write(name, tmp_path, records())
    before = written(tmp_path)
    with pytest.raises(KeyError):
        write(name, tmp_path, [*records()[:1], {"file_name": "torn.jpg"}])
    assert written(tmp_path) == before


# --- JSON lines


def read_jsonl(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "phrases.jsonl").read_bytes().splitlines()]


def test_jsonl_has_a_line_a_phrase(tmp_path: Path) -> None:
    lines = read_jsonl(write("jsonl", tmp_path, records()))
    assert [(line["file_name"], line["phrase"]) for line in lines] == [
        ("sub/a b.jpg", "A dog"),
        ("b.jpg", "a dog"),
        ("b.jpg", "a bird"),
    ]
    assert lines[0] == {
        "file_name": "sub/a b.jpg",
        "width": 60,
        "height": 40,
        "caption": "A dog runs",
        "phrase": "A dog",
        "span": [0, 5],
        "point": [52.25, 5],
        "boxes": [{"bbox": [40, 2, 15, 12], "score": 0.9}, {"bbox": [0, 0, 10, 10], "score": 0.7}],
        "score": 0.618034,
        "level": 2,
    }
    assert lines[1]["boxes"] == []


def test_jsonl_keeps_any_text(tmp_path: Path) -> None:
    lines = read_jsonl(write("jsonl", tmp_path, hostile()))
    assert [line["phrase"] for line in lines] == HOSTILE
    assert {line["caption"] for line in lines} == {"\n".join(HOSTILE)}
    assert {line["file_name"] for line in lines} == {HOSTILE_NAME}


@pytest.mark.parametrize("images", [[], [record_of("a.jpg", [WORDLESS], SIZE)]])
def test_jsonl_without_phrases(tmp_path: Path, images: list[Record]) -> None:
    assert read_jsonl(write("jsonl", tmp_path, images)) == []


# --- CSV


def read_csv(out: Path) -> list[dict[str, str]]:
    with (out / "phrases.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_csv_has_a_row_a_phrase(tmp_path: Path) -> None:
    rows = read_csv(write("csv", tmp_path, records()))
    assert [(row["file_name"], row["phrase"]) for row in rows] == [
        ("sub/a b.jpg", "A dog"),
        ("b.jpg", "a dog"),
        ("b.jpg", "a bird"),
    ]
    assert list(rows[0].items()) == [
        *(("file_name", "sub/a b.jpg"), ("width", "60"), ("height", "40"), ("caption", "A dog runs")),
        *(("phrase", "A dog"), ("start", "0"), ("end", "5"), ("x", "52.25"), ("y", "5.0")),
        *(("box_x", "40.0"), ("box_y", "2.0"), ("box_width", "15.0"), ("box_height", "12.0")),
        *(("box_score", "0.9"), ("score", "0.618034"), ("level", "2")),
    ]
    # Without a box: the pixel of the point, as there is no heat, and no score.
    assert [rows[1][f"box_{key}"] for key in ("x", "y", "width", "height", "score")] == [
        "52.0",
        "5.0",
        "1.0",
        "1.0",
        "",
    ]


def test_csv_keeps_any_text(tmp_path: Path) -> None:
    rows = read_csv(write("csv", tmp_path, hostile()))
    assert [row["phrase"] for row in rows] == HOSTILE
    assert {row["caption"] for row in rows} == {"\n".join(HOSTILE)}
    assert {row["file_name"] for row in rows} == {HOSTILE_NAME}


def test_csv_ends_lines_as_rfc_4180_has_it(tmp_path: Path) -> None:
    lines = (write("csv", tmp_path, records()) / "phrases.csv").read_bytes().split(b"\r\n")
    assert len(lines) == 5  # names, three phrases, and nothing after the last line's end
    assert lines[-1] == b""
    assert lines[2].startswith(b'b.jpg,60,40,"a dog, a bird",a dog,0,5,')


@pytest.mark.parametrize("images", [[], [record_of("a.jpg", [WORDLESS], SIZE)]])
def test_csv_without_phrases_has_its_names(tmp_path: Path, images: list[Record]) -> None:
    out = write("csv", tmp_path, images)
    assert read_csv(out) == []
    assert (out / "phrases.csv").read_bytes().startswith(b"file_name,width,height,caption,")


# --- YOLO


def read_yolo(out: Path, name: str) -> list[list[float]]:
    lines = (out / "labels" / label_name(name)).read_text().splitlines()
    return [[float(value) for value in line.split(" ")] for line in lines]


def test_yolo_labels(tmp_path: Path) -> None:
    out = write("yolo", tmp_path, records())
    assert sorted(written(out)) == [
        *("data.yaml", "images/b.jpg", "images/nothing.jpg", "images/sub/a b.jpg"),
        *("labels/b.txt", "labels/nothing.txt", "labels/sub/a b.txt", "train.txt", "val.txt"),
    ]
    assert (out / "labels" / "sub" / "a b.txt").read_text() == "0 0.791667 0.200000 0.250000 0.300000\n"
    for number, cx, cy, width, height in read_yolo(out, "b.jpg"):
        box = [(cx - width / 2) * 60, (cy - height / 2) * 40, width * 60, height * 40]
        assert box == pytest.approx([[52, 5, 1, 1], [1, 2, 3, 4]][int(number)], abs=1e-4)
    assert read_yolo(out, "nothing.jpg") == []
    assert yaml.safe_load((out / "data.yaml").read_text("utf-8")) == {
        "path": str(out.resolve()),
        "train": "train.txt",
        "val": "val.txt",
        "names": {0: "a dog", 1: "a bird"},
    }


def test_yolo_keeps_any_text(tmp_path: Path) -> None:
    out = write("yolo", tmp_path, hostile())
    names = yaml.safe_load((out / "data.yaml").read_text("utf-8"))["names"]
    assert names == {i: text.lower() for i, text in enumerate(HOSTILE)}
    assert (out / "labels" / "a folder" / 'ü "熊", #1 %20.x.txt').exists()
    assert [line[0] for line in read_yolo(out, HOSTILE_NAME)] == list(range(len(HOSTILE)))


@pytest.mark.parametrize("images", [[], [record_of("a.jpg", [WORDLESS], SIZE)]])
def test_yolo_without_phrases(tmp_path: Path, images: list[Record]) -> None:
    out = write("yolo", tmp_path, images)
    assert yaml.safe_load((out / "data.yaml").read_text("utf-8"))["names"] == {}
    assert not any(path.read_bytes() for path in (out / "labels").rglob("*.txt"))


def test_yolo_refuses_images_that_would_share_their_labels(tmp_path: Path) -> None:
    images = [record_of(name, [], SIZE) for name in ("sub/a.jpg", "a.jpg", "sub/a.png")]
    with pytest.raises(GroundcliError, match=r"sub/a\.jpg and sub/a\.png"):
        write("yolo", tmp_path, images)
    with pytest.raises(GroundcliError, match=r"sub/a\.jpg and sub/a\.png"):
        check_names(image["file_name"] for image in images)
    check_names(["sub/a.jpg", "a.jpg", "a.b.jpg"])


def test_another_tool_imports_yolo(tmp_path: Path) -> None:
    true = write_shapes(tmp_path / "images", copies=1)
    images = []
    for name, (x0, y0, _, _) in true.items():
        text = (tmp_path / "images" / name).with_suffix(".txt").read_text().strip()
        said = phrase(text, (0, len(text)), ((float(x0), float(y0), float(SIDE), float(SIDE)),))
        said = replace(said, size=SHAPES_SIZE)
        images.append(record_of(name, [Answer(text, SHAPES_SIZE, (said,))], SHAPES_SIZE))
    out = write("yolo", tmp_path / "out", images)
    dataset = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(tmp_path / "images"),
        annotations_directory_path=str(out / "labels"),
        data_yaml_path=str(out / "data.yaml"),
    )
    assert len(dataset) == len(true)
    for path, _, found in dataset:
        assert found.xyxy == pytest.approx(np.array([true[Path(path).name]]), abs=1e-3)
        assert dataset.classes[found.class_id[0]] == Path(path).with_suffix(".txt").read_text().strip()


# --- Label Studio


def read_labelstudio(out: Path) -> tuple[list[dict[str, Any]], ElementTree.Element]:
    interface = ElementTree.fromstring((out / "labelstudio.xml").read_text("utf-8"))
    return json.loads((out / "labelstudio.json").read_text("utf-8")), interface


def check_labelstudio(tasks: list[dict[str, Any]], interface: ElementTree.Element) -> None:
    """The structure that its guide documents, "Import pre-annotated data", and that the interface knows all names."""
    fields = {tag.attrib["value"] for tag in interface if "value" in tag.attrib}
    assert {tag.attrib["toName"] for tag in interface if "toName" in tag.attrib} == {"image"}
    controls = {tag.attrib["name"]: tag for tag in interface if "toName" in tag.attrib}
    ids = []
    for task in tasks:
        assert {f"${field}" for field in task["data"]} == fields
        for prediction in task["predictions"]:
            assert set(prediction) == {"model_version", "score", "result"}
            assert 0 <= prediction["score"] <= 1
            for result in prediction["result"]:
                ids.append(result["id"])
                kind, value, control = result["type"], result["value"], controls[result["from_name"]]
                assert (control.tag.lower(), result["to_name"]) == (kind, "image")
                sizes, labels = {"x", "y", "width"}, set()
                if kind == "rectanglelabels":
                    sizes, labels = sizes | {"height", "rotation"}, {kind}
                    assert set(value[kind]) <= {label.attrib["value"] for label in control}
                assert set(value) == sizes | labels
                assert all(0 <= value[size] <= 100 for size in sizes)
                assert all(isinstance(result[key], int) for key in ("original_width", "original_height"))
                assert result["image_rotation"] == 0
                assert 0 <= result["score"] <= 1
    assert len(set(ids)) == len(ids)


def test_labelstudio_tasks(tmp_path: Path) -> None:
    tasks, interface = read_labelstudio(write("labelstudio", tmp_path, records()))
    check_labelstudio(tasks, interface)
    assert [task["data"] for task in tasks] == [
        {"image": "sub/a b.jpg", "caption": "A dog runs\nwell"},
        {"image": "nothing.jpg", "caption": ""},
        {"image": "b.jpg", "caption": "a dog, a bird"},
    ]
    assert [len(task["predictions"]) for task in tasks] == [1, 0, 1]
    (prediction,) = tasks[0]["predictions"]
    box, point = prediction["result"]
    assert prediction["score"] == 0.618034
    assert (box["id"], box["type"]) == ("box1", "rectanglelabels")
    assert box["value"] == {
        "x": pytest.approx(40 / 60 * 100, abs=1e-6),
        "y": 5,
        "width": 25,
        "height": 30,
        "rotation": 0,
        "rectanglelabels": ["a dog"],
    }
    assert (point["id"], point["type"]) == ("point1", "keypoint")
    assert point["value"] == {
        "x": pytest.approx(52.25 / 60 * 100, abs=1e-6),
        "y": 12.5,
        "width": 0.5,
    }
    assert (box["original_width"], box["original_height"], box["score"]) == (60, 40, 0.618034)
    assert box["meta"] == point["meta"] == {"text": ["A dog"]}
    last = tasks[2]["predictions"][0]["result"]
    assert [result["id"] for result in last] == ["box2", "point2", "box3", "point3"]
    assert [label.attrib["value"] for label in interface.iter("Label")] == ["a dog", "a bird"]


def test_labelstudio_keeps_any_text(tmp_path: Path) -> None:
    tasks, interface = read_labelstudio(write("labelstudio", tmp_path, hostile()))
    check_labelstudio(tasks, interface)
    assert [task["data"] for task in tasks] == [{"image": HOSTILE_NAME, "caption": "\n".join(HOSTILE)}]
    results = tasks[0]["predictions"][0]["result"]
    assert [result["meta"]["text"] for result in results[::2]] == [[text] for text in HOSTILE]
    assert results[0]["value"]["rectanglelabels"] == ['a "dog", or so']  # a label is one line


@pytest.mark.parametrize(("images", "count"), [([], 0), ([record_of("a.jpg", [WORDLESS], SIZE)], 1)])
def test_labelstudio_without_phrases(tmp_path: Path, images: list[Record], count: int) -> None:
    tasks, interface = read_labelstudio(write("labelstudio", tmp_path, images))
    check_labelstudio(tasks, interface)
    assert len(tasks) == count
    assert not list(interface.iter("Label"))


# --- What was not found


def test_what_was_not_found_is_listed_with_its_reason(tmp_path: Path) -> None:
    gone = replace(phrase("a bird", (7, 13)), point=None, score=0.0301, reason="its score 0.03 is under 0.1")
    answers = [WORDLESS, Answer("a dog, a bird", SIZE, (TWO.phrases[0], gone))]
    lines = [record_of("sub/a b.jpg", answers, SIZE), record_of("b.jpg", [TWO], SIZE)]
    with not_found(tmp_path) as add:
        for record in lines:
            add(record)
    assert [json.loads(line) for line in (tmp_path / "not_found.jsonl").read_text().splitlines()] == [
        {
            **{"file_name": "sub/a b.jpg", "caption": "a dog, a bird", "phrase": "a bird", "span": [7, 13]},
            **{"score": 0.0301, "reason": "its score 0.03 is under 0.1"},
        }
    ]
    for name in FORMATS:  # and is in no other file
        for content in written(write(name, tmp_path / name, lines[:1])).values():
            assert b"bird" not in content.replace(b"a dog, a bird", b"")
