"""Benchmarks at a tiny size; the command for machines with a GPU, on a CPU."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(name: str, *arguments: object) -> list[list[str]]:
    """The words of each line that a benchmark prints."""
    command = [sys.executable, ROOT / "benchmarks" / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert not done.returncode, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_all_that_is_asked_of_a_gpu_runs_on_a_cpu(tmp_path: Path) -> None:
    for name in ("cat.jpg", "cat.txt", "coffee.jpg", "coffee.txt"):
        shutil.copyfile(ROOT / "examples/photos" / name, tmp_path / name)
    command = [sys.executable, ROOT / "benchmarks/gpu.py", tmp_path, "--device", "cpu", "--recipes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    failed = {what for what, how in said.items() if how.startswith("FAILED")}
    assert failed <= (set() if find_spec("ray") else {"Ray"}), done.stdout
    assert said["annotate in float32"].endswith("2 images found, 2 done, 0 resumed, 0 failed")
    compared = [line for line in said.values() if "points on the same pixel" in line]
    for line in compared:
        found, _, same = map(int, re.findall(r"\d+", line))
        assert found >= same > found / 2
    assert {"two processes that train", "bf16 against float32"} < said.keys()


@pytest.mark.slow
def test_growth_measures_each_count() -> None:
    _, *rows = run("growth.py", 6, 2)
    assert [row[0] for row in rows] == ["2", "6"]
    for _, each, _, peak, disk, _ in rows:
        assert float(each) > 0
        assert 100 < float(peak.replace(",", "")) < 4000  # MiB
        assert 1 < float(disk) < 1000  # KiB


@pytest.mark.slow
def test_training_takes_longer_than_its_matrix_products_and_no_batch_fits_no_memory() -> None:
    about, _, *rows = run("train.py", "--batch-size", 4, "--steps", 1, "--repeats", 1, "--memory", 0.01)
    assert about[:4] == ["lite,", "batches", "of", "4,"]
    kept, products, live, tuning = (float(row[0]) for row in rows[:4])
    names = [" ".join(row[3:]) for row in rows[:4]]
    assert names == ["maps kept", "its matrix products alone", "backbone in every epoch", "tuning blocks.4, blocks.5"]
    assert 0 < products < kept < live
    assert kept < tuning
    assert [" ".join(row[-6:-2]) for row in rows[4:]] == ["kept: none; 4 take", "tuned: none; 4 take"]


@pytest.mark.slow
def test_others_are_the_published_ones_and_answer() -> None:
    pytest.importorskip("transformers")
    _, _, *rows, _ = run("others.py", "--images", 1, "--repeats", 1, "--shrink", 4)
    ours, *others = rows
    assert ours[:2] == ["groundcli,", "lite"]
    assert [row[0] for row in others] == ["GroundingDINO-tiny", "OWLv2-base", "Florence-2-base"]
    for row, published in zip(others, (172, 155, 231), strict=True):
        assert float(row[1]) == pytest.approx(published, rel=0.02)
        assert min(float(number.replace(",", "")) for number in row[2:]) > 0
