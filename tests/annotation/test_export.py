"""Other formats of a finished run, made without its model, as other people's readers see them."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import supervision
import yaml
from PIL import Image
from pycocotools.coco import COCO

from groundcli.annotation import AnnotateOptions
from groundcli.annotation.export import write_outputs
from groundcli.annotation.folder import files_of
from groundcli.annotation.journal import Line
from groundcli.answer import Answer, GroundedPhrase
from groundcli.data import Box
from groundcli.output.record import record_of
from tests.cli.conftest import Run, groundcli, process  # noqa: F401 - fixtures

SIZE = (60, 40)
HEAT = np.eye(4, dtype=np.float32)
NO_TORCH = "import sys; sys.modules['torch'] = None; from groundcli.__main__ import main; main()"
LABEL_STUDIO, DATASETS = "label_studio_sdk", "datasets"  # tests that need them skip without


def answer(caption: str, phrases: dict[str, tuple[Box, float]]) -> Answer:
    grounded = []
    for text, (box, score) in phrases.items():
        start = caption.index(text)
        point = box[0] + box[2] / 2, box[1] + box[3] / 2
        grounded.append(GroundedPhrase(text, (start, start + len(text)), SIZE, point, (box,), (score,), score, 0, HEAT))
    return Answer(caption, SIZE, tuple(grounded))


MAN, TRUCK = (5.0, 4.0, 20.0, 30.0), (30.0, 10.0, 24.0, 16.0)
TWICE = [
    answer("A man by a red truck", {"A man": (MAN, 0.6), "a red truck": (TRUCK, 0.9)}),
    answer("the tall man is old", {"the tall man": ((6, 4, 20, 30), 0.8)}),
    answer("A man and a man", {"A man": (MAN, 0.6), "a man": ((40, 4, 12, 30), 0.5)}),
]
IMAGES: dict[str, Sequence[Answer]] = {
    "a b.jpg": TWICE,
    "sub/images/c#1.png": [answer("two dogs", {"two dogs": ((1, 2, 30, 30), 0.7)})],
    "nothing.jpg": [Answer("well", SIZE, ())],
}


def make_run(folder: Path, images: dict[str, Sequence[Answer]] = IMAGES) -> Path:
    """Photographs, and a finished run on them, as if a model had said this; the run's folder."""
    out = folder / "out"
    out.mkdir()
    for i, name in enumerate(images):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (i, 99, 9)).save(folder / "photos" / name)
    options = AnnotateOptions.make(images=folder / "photos", out=out, overlays=False, report=False)
    arguments = options.arguments()
    about = {"version": "0", "weights": {}, "arguments": arguments, "finished": True}
    (out / "run.json").write_text(json.dumps({**about, "files": files_of(arguments)}))
    (out / "positions.json").write_text(json.dumps({"listing": "", "positions": [0, 1, 2], "images": [*images]}))
    lines = [Line.of({"key": "0", **record_of(name, answers, SIZE)}) for name, answers in images.items()]
    lines.append(Line.of({"file_name": "torn.jpg", "key": "0", "error": "torn"}))
    (out / "annotations.jsonl").write_text("".join(f"{line.text}\n" for line in lines))
    write_outputs(out, [], "phrase", False)
    return out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# --- All of them


@pytest.mark.slow
def test_any_format_any_number_of_times_and_without_torch(out: Path) -> None:
    before = contents(out)
    formats = ["--format", "csv", "--format", "jsonl", "--format", "labelstudio", "--format", "yolo"]
    command = [sys.executable, "-c", NO_TORCH, "export", str(out), *formats, "--format", "coco"]
    seen = []
    for _ in range(2):
        done = subprocess.run([*command, "--categories", "phrase"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        seen.append(contents(out))
    names = ("phrases.csv", "phrases.jsonl", "labelstudio.json", "labelstudio.xml")
    names += ("labels/", "images/", "data.yaml", "train.txt", "val.txt", "annotations.json", "results.json")
    assert done.stdout.splitlines() == [str(out / name) for name in names]
    assert seen[0] == seen[1]
    assert {name for name, content in before.items() if seen[0][name] != content} == {"run.json"}
    assert "phrases.csv" in json.loads(seen[0]["run.json"])["files"]


@pytest.mark.parametrize("kind", ["missing", "photographs", "unfinished", "lost"])
def test_a_finished_run_is_needed(out: Path, tmp_path: Path, groundcli: Run, kind: str) -> None:  # noqa: F811
    folder = tmp_path / ("photos" if kind == "photographs" else "other")
    said = "holds no run of `groundcli annotate`"
    if kind == "unfinished":
        run = json.loads((out / "run.json").read_text())
        (out / "run.json").write_text(json.dumps({**run, "finished": False}))
        folder, said = out, "its run isn't finished; run its command again"
    if kind == "lost":
        (out / "annotations.jsonl").unlink()
        folder, said = out, "annotations.jsonl is gone, and all is made of it; run the command of this run again"
    before = contents(tmp_path)
    assert groundcli("export", folder, "--format", "csv", code=3).stderr == f"error: {folder}: {said}\n"
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["labels/a b.txt", "phrases.csv", "images/mine.jpg"])
def test_files_of_the_users_own_are_never_replaced(out: Path, groundcli: Run, name: str) -> None:  # noqa: F811
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("by hand\n")
    before = contents(out)
    done = groundcli("export", out, "--format", "yolo", "--format", "csv", code=2)
    assert f"holds files that groundcli did not write ({name})" in done.stderr
    assert contents(out) == before


@pytest.mark.slow
def test_merged_captions(out: Path, groundcli: Run) -> None:  # noqa: F811
    """Of one head in one place the best stays; the other man, at another place, is another."""
    groundcli("export", out, "--format", "jsonl", "--format", "coco", "--categories", "head", "--merge-captions")
    lines = [json.loads(line) for line in (out / "phrases.jsonl").read_text().splitlines()]
    assert [line["phrase"] for line in lines] == ["a red truck", "the tall man", "a man", "two dogs"]
    coco = COCO(str(out / "annotations.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["truck", "man", "dog"]
    assert [len(coco.getAnnIds(imgIds=[i])) for i in coco.getImgIds()] == [3, 1, 0]
    assert len(coco.dataset["captions"]) == 5
    groundcli("export", out, "--format", "jsonl", "--format", "coco")
    assert len((out / "phrases.jsonl").read_text().splitlines()) == 6
    assert len(COCO(str(out / "annotations.json")).getAnnIds()) == 6


# --- YOLO


def images_listed(out: Path, name: str) -> list[Path]:
    """As Ultralytics reads a list: ./ is the list's own folder."""
    lines = (out / name).read_text().splitlines()
    assert all(line.startswith("./") for line in lines)
    return [out / line for line in lines]


@pytest.mark.slow
def test_yolo_trains_as_it_is(out: Path, tmp_path: Path, groundcli: Run) -> None:  # noqa: F811
    groundcli("export", out, "--format", "yolo")
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert data["names"] == {0: "man", 1: "truck", 2: "dog"}
    assert Path(data["path"]) == out.resolve()
    train, val = images_listed(out, data["train"]), images_listed(out, data["val"])
    assert (len(train), len(val)) == (2, 1)
    assert not {*train} & {*val}
    for image in (*train, *val):  # the last /images/ becomes /labels/, as Ultralytics has it
        labels = Path("/labels/".join(str(image).rsplit("/images/", 1))).with_suffix(".txt")
        lines = labels.read_text().splitlines()
        assert len({*lines}) == len(lines)
        assert Image.open(image).size == SIZE
    assert (out / "images/sub/images_/c#1.png").samefile(tmp_path / "photos/sub/images/c#1.png")
    assert len((out / "labels/a b.txt").read_text().splitlines()) == 4  # "A man" of two captions is one line


@pytest.mark.slow
def test_a_reader_of_yolo(out: Path, groundcli: Run) -> None:  # noqa: F811
    groundcli("export", out, "--format", "yolo", "--copy-images", "--merge-captions")
    assert not (out / "images/a b.jpg").is_symlink()
    dataset = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(out / "images"),
        annotations_directory_path=str(out / "labels"),
        data_yaml_path=str(out / "data.yaml"),
    )
    found = {Path(path).name: detections for path, _, detections in dataset}
    assert [dataset.classes[i] for i in found["a b.jpg"].class_id] == ["truck", "man", "man"]
    assert found["a b.jpg"].xyxy[0] == pytest.approx([30, 10, 54, 26], abs=1e-3)
    assert len(found["nothing.jpg"]) == 0


@pytest.mark.slow
def test_ultralytics_own_reader(out: Path, groundcli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    pytest.importorskip("ultralytics")
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    groundcli("export", out, "--format", "yolo")
    data = check_det_dataset(str(out / "data.yaml"), autodownload=False)
    whole = [YOLODataset(img_path=data[split], data=data, augment=False) for split in ("train", "val")]
    classes = {Path(one["im_file"]).name: one["cls"][:, 0].tolist() for dataset in whole for one in dataset.labels}
    assert classes == {"a b.jpg": [0, 1, 0, 0], "c#1.png": [2], "nothing.jpg": []}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_photographs_are_linked_and_never_written_through(out: Path, tmp_path: Path, groundcli: Run) -> None:  # noqa: F811
    before = contents(tmp_path / "photos")
    for more in ((), ("--copy-images",), ()):
        groundcli("export", out, "--format", "yolo", *more)
        assert (out / "images/a b.jpg").is_symlink() == (not more)
        assert (out / "images/a b.jpg").read_bytes() == before["a b.jpg"]
    assert contents(tmp_path / "photos") == before


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_photographs_are_where_the_run_found_them(
    out: Path,
    tmp_path: Path,
    groundcli: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = json.loads((out / "run.json").read_text())
    run["folder"], run["arguments"]["images"] = str(tmp_path), ["photos"]
    (out / "run.json").write_text(json.dumps(run))
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    groundcli("export", out, "--format", "yolo")
    assert (out / "images/a b.jpg").resolve() == (tmp_path / "photos/a b.jpg").resolve()


@pytest.mark.slow
def test_photographs_that_are_elsewhere_now(
    out: Path,
    tmp_path: Path,
    groundcli: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def remembered() -> Any:
        return json.loads((out / "run.json").read_text()).get("exports", {})

    way = f"say where the run's images are now: `groundcli export {out} --format yolo --images FOLDER`\n"
    (tmp_path / "photos").rename(tmp_path / "moved")
    done = groundcli("export", out, "--format", "yolo", code=3)
    assert "no such file or folder" in done.stderr
    assert done.stderr.endswith(way)
    assert remembered() == {}
    monkeypatch.chdir(tmp_path)
    groundcli("export", out, "--format", "yolo", "--images", "moved")
    assert (out / "images/a b.jpg").exists()
    assert remembered()["yolo"]["images"] == [str(tmp_path / "moved")]
    (tmp_path / "moved/a b.jpg").rename(tmp_path / "a b.jpg")
    done = groundcli("export", out, "--format", "yolo", "--images", tmp_path / "moved", "--copy-images", code=3)
    assert done.stderr == f"error: a b.jpg: this image is gone; {way}"
    assert not remembered()["yolo"]["copy_images"]


# --- Tables


def test_pandas_reads_the_table(out: Path, groundcli: Run) -> None:  # noqa: F811
    groundcli("export", out, "--format", "csv")
    table = pandas.read_csv(out / "phrases.csv", keep_default_na=False, na_values=[""])
    assert table.phrase.tolist() == ["A man", "a red truck", "the tall man", "A man", "a man", "two dogs"]
    assert table.box_width.tolist() == [20, 24, 20, 20, 12, 30]
    with (out / "phrases.csv").open(newline="") as file:
        assert len([*csv.DictReader(file, strict=True)]) == 6


@pytest.mark.slow
def test_hugging_face_reads_the_lines(out: Path, groundcli: Run, tmp_path: Path) -> None:  # noqa: F811
    datasets = pytest.importorskip(DATASETS)
    groundcli("export", out, "--format", "jsonl")
    rows = datasets.load_dataset(
        "json", data_files=str(out / "phrases.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows["phrase"][1] == "a red truck"
    assert rows[1]["boxes"] == [{"bbox": [30, 10, 24, 16], "score": 0.9}]


def test_pandas_reads_phrases_that_look_like_nothing(tmp_path: Path, groundcli: Run) -> None:  # noqa: F811
    texts = ["None", "nan", "NULL", "n/a"]
    out = make_run(tmp_path, {"a.jpg": [answer(text, {text: (MAN, 0.5)}) for text in texts]})
    groundcli("export", out, "--format", "csv")
    table = pandas.read_csv(out / "phrases.csv", keep_default_na=False, na_values=[""])  # as the docs have it
    assert table.phrase.tolist() == table.caption.tolist() == texts
    assert table.box_width.tolist() == [20] * 4


# --- The COCO file


@pytest.mark.slow
def test_hugging_face_reads_the_coco_file(out: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip(DATASETS)

    def rows(field: str) -> Any:
        path, cache = str(out / "annotations.json"), str(tmp_path / "cache")
        return datasets.load_dataset("json", data_files=path, field=field, split="train", cache_dir=cache)

    assert rows("annotations")[1]["phrase"] == "a red truck"
    assert rows("annotations")[1]["bbox"] == [30, 10, 24, 16]
    assert sorted(rows("images")["file_name"]) == sorted(IMAGES)
    assert "the tall man is old" in rows("captions")["caption"]


@pytest.mark.slow
@pytest.mark.parametrize("points", [False, True], ids=["COCO 1.0", "COCO Keypoints 1.0"])
def test_the_reader_of_cvat(out: Path, groundcli: Run, tmp_path: Path, points: bool) -> None:  # noqa: F811
    datumaro = pytest.importorskip("datumaro")
    groundcli("export", out, "--format", "coco", "--categories", "head")
    folder = tmp_path / "import/annotations"
    folder.mkdir(parents=True)
    shutil.copytree(tmp_path / "photos", folder.parent / "images/default")
    kind = "person_keypoints" if points else "instances"
    (folder / f"{kind}_default.json").write_bytes((out / "annotations.json").read_bytes())
    dataset = datumaro.Dataset.import_from(str(folder.parent), f"coco_{kind}")
    labels = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    assert labels == ["man", "truck", "dog"]
    found = {item.id: item.annotations for item in dataset}
    assert {*found} == {"a b", "sub/images/c#1", "nothing"}
    boxes = [a for a in found["sub/images/c#1"] if isinstance(a, datumaro.Bbox)]
    assert [(labels[a.label], a.get_bbox()) for a in boxes] == [("dog", [1, 2, 30, 30])]
    if points:
        (point,) = (a for a in found["sub/images/c#1"] if isinstance(a, datumaro.Points))
        assert point.points == [16, 17]


@pytest.mark.slow
def test_the_reader_of_fiftyone(out: Path, tmp_path: Path) -> None:
    coco = pytest.importorskip("fiftyone.utils.coco")  # up to its data base
    importer = coco.COCODetectionDatasetImporter(
        data_path=str(tmp_path / "photos"),
        labels_path=str(out / "annotations.json"),
        label_types=["detections", "segmentations", "keypoints"],
    )
    importer.setup()
    read = {Path(path).name: (about, labels) for path, about, labels in importer}
    about, labels = read["a b.jpg"]
    assert (about.width, about.height) == SIZE
    assert {*labels} == {"detections", "segmentations", "keypoints"}
    assert labels["detections"].detections[1].bounding_box == [0.5, 0.25, 0.4, 0.4]
    assert [one.confidence for one in labels["detections"].detections][:2] == [0.6, 0.9]
    assert labels["keypoints"].keypoints[1].points == [[0.7, 0.45]]
    assert labels["segmentations"].detections[1].mask.any()


# --- Label Studio


@pytest.mark.parametrize(
    ("prefix", "address"),
    [
        ("", "sub/images/c#1.png"),
        ("http://localhost:8000", "http://localhost:8000/sub/images/c%231.png"),
        ("/data/local-files/?d=photos/", "/data/local-files/?d=photos/sub/images/c%231.png"),
        ("/data/local-files/?d=", "/data/local-files/?d=sub/images/c%231.png"),
        ("s3://bucket/photos/", "s3://bucket/photos/sub/images/c#1.png"),
    ],
)
def test_addresses_for_label_studio(out: Path, groundcli: Run, prefix: str, address: str) -> None:  # noqa: F811
    groundcli("export", out, "--format", "labelstudio", "--image-prefix", prefix)
    tasks = json.loads((out / "labelstudio.json").read_text())
    assert len(tasks) == len(IMAGES)
    assert tasks[1]["data"]["image"] == address
    assert tasks[0]["data"]["caption"] == "A man by a red truck\nthe tall man is old\nA man and a man"


@pytest.mark.slow
def test_label_studios_own_reader(out: Path, groundcli: Run, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip(LABEL_STUDIO)
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.label_interface import LabelInterface

    groundcli("export", out, "--format", "labelstudio", "--categories", "head", "--image-prefix", "http://host/")
    config = (out / "labelstudio.xml").read_text()
    interface = LabelInterface(config)
    interface.validate()
    tasks = json.loads((out / "labelstudio.json").read_text())
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})  # the SDK's own check of predictions in it fails
        for prediction in task["predictions"]:
            assert interface.validate_prediction(prediction, return_errors=True) == []
    converter = Converter(config, project_dir=str(tmp_path), upload_dir=str(tmp_path), download_resources=False)
    accepted = [
        {**task, "id": i, "annotations": [{"id": i, "completed_by": 1, "result": task["predictions"][0]["result"]}]}
        for i, task in enumerate(tasks)
        if task["predictions"]
    ]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/tasks.json").write_text(json.dumps(accepted))
    converter.convert_to_coco(str(tmp_path / "tasks"), str(tmp_path / "coco"), output_image_dir=str(tmp_path / "i"))
    coco = json.loads((tmp_path / "coco/result.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert sorted(names.values()) == ["dog", "man", "truck"]
    boxes = {(names[a["category_id"]], *np.round(a["bbox"], 1)) for a in coco["annotations"]}
    assert ("truck", 30, 10, 24, 16) in boxes
    assert ("dog", 1, 2, 30, 30) in boxes
