"""`groundcli eval` on small data sets in their published layouts, with the weights that ship."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.data.published import ball, coco, referit, visual_genome


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "write", "split", "phrases", "categories"),
    [
        ("coco", coco, "val", 3, {"sports", "person"}),
        ("coco_categories", coco, "val", 2, {"sports", "person"}),
        ("referit", referit, "val", 3, {"ball"}),
        ("visual_genome", visual_genome, "all", 3, set()),
    ],
)
def test_published_layouts(
    groundcli: Run, tmp_path: Path, dataset: str, write: Any, split: str, phrases: int, categories: set[str]
) -> None:
    write(tmp_path / "data")
    file = tmp_path / "numbers.json"
    done = groundcli(
        "eval", "--dataset", dataset, "--data", tmp_path / "data", "--split", split, "--json", file,
    )  # fmt: skip
    assert f"{dataset} {split} lite, protocol default" in done.stdout
    numbers = json.loads(file.read_text())
    assert (numbers["dataset"], numbers["split"], numbers["phrases"]) == (dataset, split, phrases)
    assert set(numbers["pointing"]["by_category"]) == categories
    assert 0 < numbers["pointing"]["random"] < 1


@pytest.mark.slow
def test_a_corrected_output_of_annotate(groundcli: Run, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    ball(photos / "a.jpg")
    (photos / "a.txt").write_text("a red ball on the floor\n")
    groundcli("annotate", photos, "--out", tmp_path / "out", "--no-overlays", "--no-report")
    content = json.loads((tmp_path / "out/annotations.json").read_text())
    assert [annotation["phrase"] for annotation in content["annotations"]] == ["a red ball", "the floor"]
    for annotation in content["annotations"]:
        x, y, _ = annotation["keypoints"]
        annotation["bbox"] = [x - 1, y - 1, 2, 2]  # corrected so that every point is right
    (photos / "mine.json").write_text(json.dumps(content))
    file = tmp_path / "numbers.json"
    groundcli("eval", "--dataset", "folder", "--data", photos, "--split", "mine", "--json", file)
    numbers = json.loads(file.read_text())
    assert (numbers["phrases"], numbers["pointing"]["accuracy"]) == (2, 1)


def test_what_is_missing_is_one_line(groundcli: Run, tmp_path: Path) -> None:
    done = groundcli("eval", "--dataset", "coco", "--data", tmp_path, code=3)
    assert "lacks annotations/captions_val2017.json, annotations/instances_val2017.json, val2017/" in done.stderr
    assert "https://cocodataset.org/#download" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_malicious_pickle_is_refused(groundcli: Run, tmp_path: Path) -> None:
    referit(tmp_path)
    touched = tmp_path / "touched"
    (tmp_path / "refclef/refs(berkeley).p").write_bytes(f"cos\nsystem\n(S'touch {touched}'\ntR.".encode())
    done = groundcli("eval", "--dataset", "referit", "--data", tmp_path, code=3)
    assert "refs(berkeley).p: refused (it holds more than plain data, GLOBAL)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not touched.exists()


@pytest.mark.slow
def test_real_photographs_of_coco(real_data: Path, groundcli: Run, tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    groundcli("eval", "--dataset", "coco", "--data", real_data / "coco", "--json", file)
    numbers = json.loads(file.read_text())
    assert numbers["skipped"] == {}
    assert numbers["pointing"]["accuracy"] > numbers["pointing"]["center"] + 0.15
