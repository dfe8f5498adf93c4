"""Runs that are killed, split, changed and gone on with: nothing is lost, and nothing comes out otherwise."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tests.cli.conftest import Run
from tests.shapes import draw_shape, write_shapes

FILES = ("annotations.json", "results.json", "failures.jsonl", "annotations.jsonl")
QUIET = ("--no-overlays", "--no-report", "--batch-size", 4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 images, of which one is broken and one has a caption without phrases."""
    folder = tmp_path_factory.mktemp("photos")
    write_shapes(folder)
    (folder / "green_circle_1.png").write_bytes(b"no picture")
    (folder / "red_square_2.txt").write_text("it is\n")
    return folder


@pytest.fixture(scope="module")
def whole(photos: Path, groundcli: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    groundcli("annotate", photos, "--out", out, *QUIET, code=1)
    return out


def same(a: Path, b: Path) -> None:
    for name in FILES:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "groundcli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_lines(journal: Path, count: int, process: "subprocess.Popen[str]") -> None:
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 3])
def test_killed_and_run_again(photos: Path, whole: Path, groundcli: Run, tmp_path: Path, workers: int) -> None:
    command = ("annotate", photos, "--out", tmp_path, *QUIET, "--workers", workers)
    process = start(*command)
    wait_for_lines(tmp_path / "annotations.jsonl", 8, process)
    process.kill()
    process.communicate()
    journal = tmp_path / "annotations.jsonl"
    torn = journal.read_bytes()
    journal.write_bytes(torn + b'{"file_name": "half a li')
    done = groundcli(*command, code=1)
    kept = int(done.stdout.split(" resumed")[0].split()[-1])
    assert kept >= 6
    same(whole, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on(
    photos: Path, whole: Path, groundcli: Run, tmp_path: Path, number: int
) -> None:
    command = ("annotate", photos, "--out", tmp_path, *QUIET)
    process = start(*command)
    wait_for_lines(tmp_path / "annotations.jsonl", 4, process)
    process.send_signal(number)
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert "run the same command again to go on" in stderr
    assert "Traceback" not in stderr
    groundcli(*command, code=1)
    same(whole, tmp_path)


def test_shards_merged_are_the_whole(photos: Path, whole: Path, groundcli: Run, tmp_path: Path) -> None:
    for i in (1, 2, 3):
        groundcli("annotate", photos, "--out", tmp_path / str(i), *QUIET, "--shard", f"{i}/3", code=None)
    shards = [tmp_path / str(i) for i in (2, 3, 1)]
    done = groundcli("merge", *shards, "--out", tmp_path / "merged", code=1)
    assert "32 images found, 31 done, 0 resumed, 1 failed" in done.stdout
    same(whole, tmp_path / "merged")
    missing = groundcli("merge", *shards[:2], "--out", tmp_path / "two", code=2)
    assert "these folders are shards 2/3, 3/3; expected 1/2, 2/2" in missing.stderr


def test_several_devices_give_the_same(photos: Path, whole: Path, groundcli: Run, tmp_path: Path) -> None:
    command = ("annotate", photos, "--devices", "cpu,cpu", *QUIET, "--out", tmp_path / "out")
    groundcli(*command, code=1)
    same(whole, tmp_path / "out")
    again = groundcli(*command, code=1)
    assert "32 images found, 0 done, 31 resumed, 1 failed" in again.stdout


def test_a_device_that_is_gone_is_one_line(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    process = start("annotate", photos, "--devices", "cpu,cpu", *QUIET, "--out", tmp_path)
    wait_for_lines(tmp_path / "annotations.jsonl", 4, process)
    children = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True)
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    _, stderr = process.communicate()
    assert process.returncode == 3
    assert "the process of cpu has been killed; run the same command again to go on" in stderr
    assert "Traceback" not in stderr


def test_what_has_changed_is_done_again(groundcli: Run, tmp_path: Path) -> None:
    write_shapes(tmp_path / "photos", copies=1)
    command = ("annotate", tmp_path / "photos", "--out", tmp_path / "out", *QUIET)
    groundcli(*command)
    draw_shape("red", "square", (90, 90)).save(tmp_path / "photos" / "blue_circle_0.png")
    (tmp_path / "photos" / "yellow_square_0.txt").write_text("a huge yellow square\n")
    (tmp_path / "photos" / "red_circle_0.png").unlink()
    (tmp_path / "photos" / "red_circle_0.txt").unlink()
    done = groundcli(*command)
    assert "7 images found, 7 done" in done.stdout or "3 resumed" in done.stdout
    groundcli(*command[:3], tmp_path / "fresh", *QUIET)
    same(tmp_path / "fresh", tmp_path / "out")
    assert "a huge yellow square" in (tmp_path / "out" / "annotations.json").read_text()


def test_a_second_run_at_the_same_time_is_refused(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"):
        done = groundcli("annotate", photos, "--out", tmp_path, code=2)
    assert "another groundcli is at work there" in done.stderr


def test_all_formats_and_pictures(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    formats = [word for name in ("jsonl", "csv", "yolo", "labelstudio") for word in ("--format", name)]
    more = ("--categories", "head", "--save-heatmaps", "--limit", 3)
    groundcli("annotate", photos, "--out", tmp_path, *formats, *more)
    coco = json.loads((tmp_path / "annotations.json").read_text())
    assert {category["name"] for category in coco["categories"]} == {"circle"}
    assert len(list((tmp_path / "heatmaps").glob("*.npz"))) == 3
    assert len(list((tmp_path / "report" / "thumbnails").glob("*.jpg"))) == 3
    assert len(list((tmp_path / "labels").rglob("*.txt"))) == 3
    for name in ("phrases.jsonl", "phrases.csv", "labelstudio.json", "data.yaml", "report.html"):
        assert (tmp_path / name).stat().st_size


def test_a_dry_run_writes_nothing(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    done = groundcli("annotate", photos, "--out", tmp_path / "out", "--dry-run")
    assert "32 images found, 32 with captions; 32 captions" in done.stdout
    assert "a blue circle" in done.stdout
    assert "MB, by 8 images tried" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="needs /dev/full")
def test_a_folder_that_cannot_be_written(photos: Path, groundcli: Run) -> None:
    done = groundcli("annotate", photos, "--out", "/proc/out", code=3)
    assert done.stderr.startswith("error: /proc/out: can't be written")
    assert len(done.stderr.splitlines()) == 1
