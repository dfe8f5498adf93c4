import json
import re
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest

import groundcli as package
from groundcli import checkpoint
from groundcli.devices import torch_device
from groundcli.files import sha256
from groundcli.weights.store import SHIPPED
from tests.cli.conftest import Run
from tests.shapes import draw_shape

XML = """<annotation><filename>{id}.jpg</filename><size><width>240</width><height>180</height><depth>3</depth></size>
<object><name>7</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def flickr30k(tmp_path: Path) -> Path:
    """Two images in the data set's own layout."""
    return make_flickr30k(tmp_path / "flickr30k", {"11": ("red", "ball", (20, 30)), "12": ("blue", "ball", (150, 100))})


def make_flickr30k(root: Path, balls: dict[str, tuple[str, str, tuple[int, int]]]) -> Path:
    """Images with a circle each, by their ids: its colour, what the sentence calls it, and its upper left corner."""
    for folder in (
        "Flickr30k_Images",
        "Flickr30k_Entities/Annotations",
        "Flickr30k_Entities/Sentences",
        "Flickr30k_Splits",
    ):
        (root / folder).mkdir(parents=True)
    for name, (colour, thing, (x, y)) in balls.items():
        draw_shape(colour, "circle", (x, y)).save(root / "Flickr30k_Images" / f"{name}.jpg")
        xml = XML.format(id=name, x=x, y=y, right=x + 60, bottom=y + 60)
        (root / "Flickr30k_Entities/Annotations" / f"{name}.xml").write_text(xml)
        sentence = f"[/EN#7/other A {colour} {thing}] on [/EN#0/notvisual the whole] .\n"
        (root / "Flickr30k_Entities/Sentences" / f"{name}.txt").write_text(sentence)
    (root / "Flickr30k_Splits" / "val.txt").write_text("".join(f"{name}\n" for name in balls))
    return root


def test_the_numbers_and_their_shape(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    file, table = tmp_path / "numbers.json", tmp_path / "rows.csv"
    done = groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--json", file, "--rows", table)
    assert "protocol default" in done.stdout
    numbers = json.loads(file.read_text())
    assert (numbers["dataset"], numbers["split"], numbers["weights"]) == ("flickr30k", "val", "lite")
    assert (numbers["images"], numbers["phrases"], numbers["skipped"]) == (2, 2, {"no_box": 2})
    assert (numbers["version"], numbers["sha256"]) == (package.__version__, sha256(SHIPPED / "lite.safetensors"))
    assert numbers["command"] == (
        f"groundcli eval --dataset flickr30k --data {flickr30k} --boxes extents --json {file} --rows {table}"
    )
    assert abs(datetime.now(timezone.utc) - datetime.fromisoformat(numbers["date"])).total_seconds() < 600
    assert numbers["torch"] == version("torch")
    assert numbers["device"] == str(torch_device("auto"))
    assert numbers["runtime"] == ("onnx" if numbers["device"] == "cpu" else "torch")
    rows = pd.read_csv(table)
    assert len(rows) == 2 * 8  # phrases, times the model, four baselines, three methods of boxes
    assert set(rows["image"]) == {"Flickr30k_Images/11.jpg", "Flickr30k_Images/12.jpg"}
    red = rows[(rows["group"] == "evaluated") & (rows["phrase"] == "A red ball")].iloc[0]
    assert (red["caption"], red["caption_text"], red["start"], red["end"]) == (0, "A red ball on the whole .", 0, 10)
    assert (red["category"], red["true_boxes"], red["system"]) == ("other", "[[20.0, 30.0, 60.0, 60.0]]", "lite")
    assert red["hit"] == (20 <= red["x"] <= 80 and 30 <= red["y"] <= 90)
    assert red["boxes"] == 5
    assert 0 < red["near_peak"] <= 1
    hits = rows.groupby(["group", "system"])["hit"].mean()
    pointing = numbers["pointing"]
    assert pointing["accuracy"] == hits["evaluated", "lite"]
    assert pointing["accuracy"] in (0, 0.5, 1)
    for name in ("center", "random", "sentence_region"):
        assert numbers["baselines"][name]["pointing"]["accuracy"] == hits["baselines", name]
    assert pointing["center"] == 0
    assert pointing["random"] == pytest.approx(60 * 60 / (240 * 180))
    assert pointing["by_category"]["other"]["phrases"] == 2
    assert sum(numbers["levels"].values()) == pytest.approx(1)
    assert set(numbers["baselines"]) == {"center", "whole_image", "sentence_region", "random"}
    best = rows[(rows["group"] == "box_methods") & (rows["system"] == "authors")]["any_rank"] == 1
    assert numbers["box_methods"]["authors"]["box_recall"]["R@1"] == best.mean()


@pytest.mark.slow
def test_ablations_comparison_markdown_and_report(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    numbers, tables, folder = tmp_path / "numbers.json", tmp_path / "tables.md", tmp_path / "report"
    done = groundcli(
        *("eval", "--dataset", "flickr30k", "--data", flickr30k, "--ablations", "--compare", "lite"),
        *("--json", numbers, "--markdown", tables, "--report", folder),
    )
    assert f"report: {folder / 'report.html'}" in done.stdout
    found = json.loads(numbers.read_text())
    assert (found["compared"]["weights"], found["compared"]["sha256"]) == ("lite", found["sha256"])
    assert found["compared"]["difference"]["pointing"] == {"value": 0, "ci95": [0, 0]}
    ablations = found["ablations"]
    assert list(ablations) == [
        *("blocks.4 alone", "blocks.5 alone", "best level (the paper's)", "levels averaged"),
        *("levels averaged, weighted", "sentence of the caption", "phrase as a sentence"),
    ]
    assert ablations["blocks.4 alone"]["levels"] == {"blocks.4": 1, "blocks.5": 0}
    assert all(row["pointing"]["accuracy"] in (0, 0.5, 1) for row in ablations.values())  # of two phrases
    text = tables.read_text()
    assert "| blocks.4 alone |" in text
    assert "paired difference" in text
    page = (folder / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2  # a case of each image
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_weights_whose_scores_are_probabilities(groundcli: Run, tmp_path: Path) -> None:
    things = ("ball", "orange", "plate", "sun", "clock", "wheel")
    balls = {str(i): ("red" if i % 2 else "blue", thing, (20 * i, 10 * i)) for i, thing in enumerate(things)}
    flickr30k = make_flickr30k(tmp_path / "flickr30k", balls)
    out = tmp_path / "calibrated.safetensors"
    common = ("calibrate", "--dataset", "flickr30k", "--data", flickr30k, "--out", out)
    done = groundcli(*common)
    assert "area under the ROC curve" in done.stdout
    assert "keeps 99 % of the right points" in done.stdout
    assert re.search(
        r"^flickr30k: R@1 [\d.]+ % \([\d.]+ to [\d.]+\), R@5 [\d.]+ % \([\d.]+ to [\d.]+\)$", done.stdout, re.M
    )
    tensors, metadata = checkpoint.load(out)
    before, _ = checkpoint.load(SHIPPED / "lite.safetensors")
    extent = {name for name in tensors if name.startswith("model/extent.")}
    assert {"model/extent.usual", "model/extent.known.weight"} < extent
    assert {name: t.numpy().tobytes() for name, t in tensors.items() if name not in extent} == {
        name: t.numpy().tobytes() for name, t in before.items() if name not in extent
    }
    assert (len(metadata["recipe"]["model"]["calibration"]), len(metadata["recipe"]["model"]["box_calibration"])) == (
        11,
        9,
    )
    file = tmp_path / "numbers.json"
    groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--weights", out, "--json", file)
    found = json.loads(file.read_text())
    assert 0 <= found["presence"]["auroc"] <= 1
    assert 0 <= found["calibration"]["score"]["ece"] <= 1
    done = groundcli(*common, code=2)
    assert "exists; name another file" in done.stderr


def test_predictions_of_others_beside_ours(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    file, numbers = tmp_path / "theirs.jsonl", tmp_path / "numbers.json"
    line = {"image": "Flickr30k_Images/11.jpg", "caption": 0, "phrase": "A red ball", "boxes": [[20, 30, 60, 60]]}
    file.write_text(json.dumps(line) + "\n")
    common = ("eval", "--dataset", "flickr30k", "--data", flickr30k, "--predictions", file)
    groundcli(*common, "--compare", "lite", "--json", numbers)
    found = json.loads(numbers.read_text())
    assert found["weights"] == str(file)
    assert found["pointing"]["accuracy"] == found["box_recall"]["R@1"] == 0.5
    assert found["attention_correctness"] is None
    assert found["predictions"] == {"missing": 1, "unused": 0}
    ours = found["compared"]["pointing"]["accuracy"]
    assert found["compared"]["difference"]["pointing"]["value"] == 0.5 - ours
    done = groundcli(*common, "--ablations", code=2)
    assert "--ablations" in done.stderr
    file.write_text('{"image": "x"}\n')
    done = groundcli(*common, code=3)
    assert f"{file}: object 1: names no phrase" in done.stderr


@pytest.mark.parametrize(
    ("options", "boxes"),
    [
        ([], "extents"),
        (["--boxes", "authors"], "authors"),
        (["--protocol", "authors"], "authors"),  # what is the authors' is measured with their boxes
        (["--protocol", "authors", "--boxes", "sides"], "sides"),
    ],
)
def test_ways_to_get_boxes(flickr30k: Path, groundcli: Run, tmp_path: Path, options: list[str], boxes: str) -> None:
    file = tmp_path / "numbers.json"
    groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--json", file, *options)
    assert json.loads(file.read_text())["boxes"] == boxes


def test_a_broken_image_is_counted_and_the_rest_goes_on(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    (flickr30k / "Flickr30k_Images" / "12.jpg").write_bytes(b"")
    file = tmp_path / "numbers.json"
    groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--json", file, code=1)
    assert json.loads(file.read_text())["skipped"]["image_failed"] == 2


def test_the_table_as_parquet(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = tmp_path / "rows.parquet"
    groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--rows", file)
    rows = pd.read_parquet(file)
    assert rows["level"].cat.categories.tolist() == ["blocks.4", "blocks.5"]
    assert rows["hit"].dtype == float


def test_what_the_python_call_gives(flickr30k: Path) -> None:
    summary, rows = package.evaluate("flickr30k", flickr30k, protocol="authors")
    assert (summary["protocol"], summary["boxes"], summary["skipped"]) == ("authors", "authors", {"notvisual": 2})
    assert rows.groupby(["group", "system"], observed=True)["hit"].mean()["baselines", "center"] == 0


@pytest.mark.parametrize(
    ("told", "code", "message"),
    [
        (["--rows", "rows.xlsx"], 2, "--rows rows.xlsx: expected a name that ends in .csv or .parquet"),
        (["--json", "no/numbers.json"], 3, "--json no/numbers.json: can't be written, as there is no folder no"),
        (["--report", "."], 2, "--report .: holds a report.html that eval did not write; name another folder"),
        (["--json", "folder.json"], 3, "--json folder.json: is a folder; name a file"),
        (["--report", "report.html"], 2, "--report report.html: is a file; name a folder"),
        (["--tolerance", "-1"], 2, "--tolerance"),
        (["--predictions", "p", "--encode", "phrase"], 2, "--encode phrase"),
        (["--json", "report.html"], 2, "--json report.html: holds what eval did not write; name another file"),
        (["--markdown", "report.html"], 2, "--markdown report.html: holds what eval did not write"),
        (["--json", "x", "--markdown", "./x"], 2, "--json, --markdown, --rows: two of them are one file"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    told: list[str], code: int, message: str, groundcli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.html").write_text("mine")
    (tmp_path / "folder.json").mkdir()
    done = groundcli("eval", "--dataset", "flickr30k", "--data", "nowhere", *told, code=code)
    assert message in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "folder.json"}


def test_only_what_eval_wrote_is_written_over(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    files = {"--json": "n.json", "--markdown": "t.md", "--rows": "r.csv"}
    written = [word for flag, name in files.items() for word in (flag, tmp_path / name)]
    for table in ("r.csv", "r.parquet"):
        for _ in range(2):  # the first time there is none, or one of no bytes; the second time one of our own
            (tmp_path / table).touch()
            groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, *written, "--rows", tmp_path / table)
        assert (tmp_path / table).stat().st_size > 1000
    boxes = flickr30k / "Flickr30k_Splits" / "val.txt"
    before = boxes.read_bytes()
    groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--json", boxes, code=2)
    assert boxes.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
def test_a_full_disk_loses_no_numbers(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    written = tmp_path / "tables.md"
    given = ["eval", "--dataset", "flickr30k", "--data", flickr30k, "--json", "/dev/full", "--markdown", written]
    done = groundcli(*given, code=3)
    assert done.stderr == "error: --json /dev/full: can't be written (No space left on device)\n"
    assert "pointing" in done.stdout
    assert "lite" in done.stdout
    assert "flickr30k val lite" in written.read_text()


def test_a_missing_split_is_one_line(flickr30k: Path, groundcli: Run) -> None:
    done = groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--split", "test", code=3)
    assert "test.txt: no such file; this folder has the splits val" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_shipped_weights_keep_their_promise(real_data: Path, groundcli: Run, tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    groundcli("eval", "--dataset", "flickr30k", "--data", real_data / "flickr30k", "--json", file)
    numbers = json.loads(file.read_text())
    assert numbers["phrases"] == 3239
    assert numbers["pointing"]["accuracy"] >= 0.70
    for category in ("people", "animals", "clothing", "other"):
        row = numbers["pointing"]["by_category"][category]
        assert row["accuracy"] > row["center"]
