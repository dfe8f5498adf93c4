"""Runs that are killed, split, changed and resumed: nothing is lost, and nothing comes out otherwise."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.cli.conftest import Run
from tests.shapes import draw_shape, write_shapes

FILES = ("annotations.json", "results.json", "failures.jsonl", "annotations.jsonl", "not_found.jsonl")
BATCH = 4
QUIET = ("--no-overlays", "--no-report", "--batch-size", BATCH)


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


@pytest.fixture(scope="module")
def shards(photos: Path, groundcli: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same in three parts; both images with a problem are in the last."""
    folder = tmp_path_factory.mktemp("shards")
    for i, code in ((1, 0), (2, 0), (3, 1)):
        groundcli("annotate", photos, "--out", folder / str(i), *QUIET, "--shard", f"{i}/3", code=code)
    return [folder / str(i) for i in (1, 2, 3)]


def same(a: Path, b: Path) -> None:
    for name in FILES:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def last(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stdout.splitlines()[-1]


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "groundcli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_lines(journal: Path, count: int, process: "subprocess.Popen[str]") -> None:
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def children(process: "subprocess.Popen[str]") -> list[int]:
    """The processes of its devices."""
    found = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]


def counted(whole: Path, journal: Path) -> str:
    """What a run says that resumes after this journal: it does the batches again that are not whole in it."""
    names = [json.loads(line)["file_name"] for line in (whole / "annotations.jsonl").read_text().splitlines()]
    there = {json.loads(line)["file_name"] for line in journal.read_bytes().split(b"\n")[:-1]}
    batches = [names[i : i + BATCH] for i in range(0, len(names), BATCH)]
    kept = {name for batch in batches if there.issuperset(batch) for name in batch} - {"green_circle_1.png"}
    return f"32 images found, {31 - len(kept)} done, {len(kept)} resumed, 1 failed"


# --- Killed, interrupted, and resumed


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_killed_and_run_again(photos: Path, whole: Path, groundcli: Run, tmp_path: Path, workers: int) -> None:
    command = ("annotate", photos, "--out", tmp_path, *QUIET, "--workers", workers)
    process = start(*command)
    journal = tmp_path / "annotations.jsonl"
    wait_for_lines(journal, 8, process)
    process.kill()
    process.communicate()
    with journal.open("ab") as file:
        file.write(b'{"file_name": "half a li')
    expected = counted(whole, journal)
    done = groundcli(*command, code=1)
    assert last(done) == f"{tmp_path}: {expected}"
    assert int(expected.split(" resumed")[0].split()[-1]) >= 7  # two batches at least, with the broken image or not
    same(whole, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on(
    photos: Path, whole: Path, groundcli: Run, tmp_path: Path, number: int
) -> None:
    command = ("annotate", photos, "--out", tmp_path, *QUIET)
    process = start(*command)
    journal = tmp_path / "annotations.jsonl"
    wait_for_lines(journal, 4, process)
    process.send_signal(number)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "")
    written = journal.read_bytes().count(b"\n")
    assert 4 <= written < 32
    assert stderr.splitlines()[-1] == (
        f"interrupted: {written} of 32 images are done and kept in {tmp_path}; run the same command again to go on"
    )
    assert not (tmp_path / ".lock").exists()
    expected = counted(whole, journal)
    assert last(groundcli(*command, code=1)) == f"{tmp_path}: {expected}"
    same(whole, tmp_path)


@pytest.mark.slow
def test_interrupted_within_a_batch(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    """All images are of one batch: it stops between two of them, and nothing half written is left."""
    command = ("annotate", photos, "--out", tmp_path, "--no-report", "--batch-size", 100, "--workers", 1)
    process = start(*command)
    while not [*tmp_path.glob("overlays/*.jpg")]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1].startswith("interrupted: 0 of 32 images are done and kept")
    assert len([*tmp_path.glob("overlays/*")]) < 16
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("wait", [0.0, 0.5, 2.0, 5.0])
def test_ctrl_c_with_several_devices(tmp_path: Path, wait: float) -> None:
    """A terminal sends it to all processes of the group, from their first moment to the midst of their work."""
    photos, tmp_path = tmp_path / "photos", tmp_path / "out"
    write_shapes(photos, copies=250)  # 2,000, which take longer than any wait
    command = [sys.executable, "-m", "groundcli", "annotate", photos, *QUIET, "--out", tmp_path, "--devices", "cpu,cpu"]
    pipe = subprocess.PIPE
    process = subprocess.Popen([*map(str, command)], stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    while not children(process):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert len(stderr.splitlines()) == 1
    assert stderr.startswith("interrupted: ")


@pytest.mark.slow
def test_a_damaged_journal_heals(photos: Path, whole: Path, groundcli: Run, tmp_path: Path) -> None:
    """Of two lines, a byte of one and all of another."""
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    lines = (out / "annotations.jsonl").read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"blue", b"blee", 1)
    lines[20] = b'{"a": 1}\n'
    (out / "annotations.jsonl").write_bytes(b"".join(lines))
    done = groundcli("annotate", photos, "--out", out, *QUIET, code=1)
    said = "2 damaged lines of the journal were set aside, and their images done again"
    assert done.stderr.splitlines()[-1] == said
    assert last(done) == f"{out}: 32 images found, 8 done, 23 resumed, 1 failed"
    assert (out / "annotations.damaged.jsonl").read_bytes() == lines[2] + lines[20]
    assert json.loads((out / "run.json").read_text())["damaged"] == 2
    same(whole, out)


@pytest.mark.slow
def test_what_has_changed_is_done_again(groundcli: Run, tmp_path: Path) -> None:
    write_shapes(tmp_path / "photos", copies=1)
    command = ("annotate", tmp_path / "photos", "--no-overlays", "--no-report", "--batch-size", 2, "--out")
    groundcli(*command, tmp_path / "out")
    draw_shape("red", "square", (90, 90)).save(tmp_path / "photos" / "blue_circle_0.png")
    (tmp_path / "photos" / "yellow_square_0.txt").write_text("a huge yellow square\n")
    (tmp_path / "photos" / "red_circle_0.png").unlink()
    (tmp_path / "photos" / "red_circle_0.txt").unlink()
    done = groundcli(*command, tmp_path / "out")
    # Again both blue ones, as a batch, and the yellow square, which is by itself now.
    assert last(done) == f"{tmp_path / 'out'}: 7 images found, 3 done, 4 resumed, 0 failed"
    groundcli(*command, tmp_path / "fresh")
    same(tmp_path / "fresh", tmp_path / "out")
    assert "a huge yellow square" in (tmp_path / "out" / "annotations.json").read_text()


def test_a_second_run_at_the_same_time_is_refused(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"):
        done = groundcli("annotate", photos, "--out", tmp_path, code=2)
    said = "another groundcli is at work there; wait for it or name another folder"
    assert done.stderr == f"error: {tmp_path}: {said}\n"


# --- Shards


@pytest.mark.slow
def test_shards_merged_are_the_whole(whole: Path, shards: list[Path], groundcli: Run, tmp_path: Path) -> None:
    done = groundcli("merge", *reversed(shards), "--out", tmp_path / "merged", code=1)
    assert done.stdout.splitlines() == [
        f"2 images or captions could not be used: see {tmp_path / 'merged' / 'failures.jsonl'}",
        f"{tmp_path / 'merged'}: 32 images found, 31 done, 0 resumed, 1 failed",
    ]
    same(whole, tmp_path / "merged")
    assert (whole / "positions.json").read_bytes() == (tmp_path / "merged" / "positions.json").read_bytes()
    run, alone = (json.loads((out / "run.json").read_text()) for out in (tmp_path / "merged", whole))
    assert run["arguments"] == {**alone["arguments"], "out": str(tmp_path / "merged")}
    assert run["counts"] == alone["counts"]
    again = groundcli("merge", *shards, "--out", tmp_path / "merged", code=2)
    assert again.stderr == f"error: {tmp_path / 'merged'} holds a run already; name another --out\n"


@pytest.mark.slow
def test_lines_of_names_that_hold_odd_ends_of_lines_are_merged(groundcli: Run, tmp_path: Path) -> None:
    """U+2028 and its like end no line of a list of failures; nor do they in the journal."""
    names = ["a\u2028b.png", "c\x85d.png", "e\x1cf.png", "g\u2029h.png"]
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(names):
        draw_shape("red", "circle", (20 * i, 30)).save(folder / name)
        (folder / name).with_suffix(".txt").write_text("a red circle\u2028 on grey\n", "utf-8")
    for name in names[:2]:
        (folder / name).write_bytes(b"no picture")
    groundcli("annotate", folder, "--out", tmp_path / "whole", *QUIET, code=1)
    parts = [tmp_path / str(i) for i in (1, 2)]
    for i, part in enumerate(parts, start=1):
        groundcli("annotate", folder, "--out", part, "--no-overlays", "--no-report", "--batch-size", 1,
                  "--shard", f"{i}/2", code=1)  # fmt: skip
    groundcli("merge", *parts, "--out", tmp_path / "merged", code=1)
    failures = (tmp_path / "merged" / "failures.jsonl").read_text("utf-8").split("\n")[:-1]
    assert [json.loads(line)["path"] for line in failures] == sorted(names[:2])
    for name in ("annotations.json", "failures.jsonl"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_merged_run_is_resumed_as_any_other(
    photos: Path, whole: Path, shards: list[Path], groundcli: Run, tmp_path: Path
) -> None:
    groundcli("merge", *shards, "--out", tmp_path / "out", code=1)
    done = groundcli("annotate", photos, "--out", tmp_path / "out", *QUIET, code=1)
    assert last(done) == f"{tmp_path / 'out'}: 32 images found, 0 done, 31 resumed, 1 failed"
    same(whole, tmp_path / "out")


@pytest.mark.slow
def test_shards_that_are_no_whole_are_not_merged(
    photos: Path, whole: Path, shards: list[Path], groundcli: Run, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    groundcli("annotate", photos, "--out", other, *QUIET, "--shard", "2/3", "--phrases", "caption")
    unfinished = Path(shutil.copytree(shards[1], tmp_path / "unfinished"))
    run = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps({**run, "finished": False}))
    first, second, third = shards
    for given, code, said in (
        ([second, third], 2, "these folders are shards 2/3, 3/3; missing: 1/3"),
        ([first, first, third], 2, "these folders are shards 1/3, 1/3, 3/3; missing: 2/3"),
        ([whole], 2, f"{whole}: a whole run, not a shard of one; it needs no merging"),
        ([first, second, third, third], 2, "these folders are shards 1/3, 2/3, 3/3, 3/3; each is needed once"),
        ([first, other, third], 2, f"{other} was run with other phrases than {first}"),
        ([first, unfinished, third], 3, f"{unfinished}: its run isn't finished; run its command again"),
        ([first, photos.parent / "nowhere"], 3, f"{photos.parent / 'nowhere'}: holds no run of `groundcli annotate`"),
    ):
        assert groundcli("merge", *given, "--out", tmp_path / "merged", code=code).stderr == f"error: {said}\n"
        assert not (tmp_path / "merged").exists()


@pytest.mark.slow
def test_several_devices_give_the_same(photos: Path, whole: Path, groundcli: Run, tmp_path: Path) -> None:
    command = ("annotate", photos, "--devices", "cpu,cpu", *QUIET, "--out", tmp_path / "out")
    assert last(groundcli(*command, code=1)) == f"{tmp_path / 'out'}: 32 images found, 31 done, 0 resumed, 1 failed"
    same(whole, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in whole.iterdir())
    assert json.loads((tmp_path / "out" / "run.json").read_text())["device"] == "cpu, cpu"
    again = groundcli(*command, code=1)
    assert last(again) == f"{tmp_path / 'out'}: 32 images found, 0 done, 31 resumed, 1 failed"


@pytest.mark.slow
def test_an_error_of_a_device_is_that_of_the_run(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    done = groundcli("annotate", photos, "--devices", "cpu,cuda:99", *QUIET, "--out", tmp_path, code=3)
    *progress, error = done.stderr.splitlines()  # the other device may be at work by then
    assert error.startswith("error: --device cuda:99: this machine has ")
    assert all(line.startswith("annotating: ") for line in progress)


@pytest.mark.slow
def test_a_device_that_is_gone_is_one_line(photos: Path, whole: Path, groundcli: Run, tmp_path: Path) -> None:
    """What is written down by then is taken over."""
    command = ("annotate", photos, *QUIET, "--out", tmp_path)
    process = start(*command, "--devices", "cpu,cpu")
    wait_for_lines(tmp_path / "annotations.jsonl", 4, process)
    os.kill(children(process)[0], signal.SIGKILL)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (3, "")
    assert stderr.splitlines()[-1] == ("error: the process of cpu has been killed; run the same command again to go on")
    expected = counted(whole, tmp_path / "annotations.jsonl")
    assert last(groundcli(*command, code=1)) == f"{tmp_path}: {expected}"
    same(whole, tmp_path)


# --- All that a run can make


@pytest.mark.slow
def test_all_formats_and_pictures(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    formats = [word for name in ("jsonl", "csv", "yolo", "labelstudio") for word in ("--format", name)]
    groundcli("annotate", photos, "--out", tmp_path, *formats, "--categories", "head", "--save-heatmaps", "--limit", 3)
    names = [f"blue_circle_{i}" for i in range(3)]
    coco = json.loads((tmp_path / "annotations.json").read_text())
    assert [category["name"] for category in coco["categories"]] == ["circle"]
    assert [image["file_name"] for image in coco["images"]] == [f"{name}.png" for name in names]
    boxes = {f"{names[a['image_id'] - 1]}.png": a["bbox"] for a in coco["annotations"]}
    for folder, suffix in (("heatmaps", "png.npz"), ("report/thumbnails", "png.jpg"), ("overlays", "png.jpg")):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == [f"{name}.{suffix}" for name in names]
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == [f"{name}.txt" for name in names]
    for path in (tmp_path / "heatmaps").iterdir():
        assert np.load(path)["phrase"].tolist() == ["a blue circle"]
    lines = [json.loads(line) for line in (tmp_path / "phrases.jsonl").read_text().splitlines()]
    assert {line["file_name"]: line["boxes"][0]["bbox"] for line in lines} == boxes
    with (tmp_path / "phrases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sides = [f"box_{side}" for side in ("x", "y", "width", "height")]
    assert {row["file_name"]: [float(row[side]) for side in sides] for row in rows} == boxes
    tasks = json.loads((tmp_path / "labelstudio.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [f"{name}.png" for name in names]
    assert '<Label value="circle"/>' in (tmp_path / "labelstudio.xml").read_text()
    assert (tmp_path / "data.yaml").read_text().splitlines()[3:] == ["names:", '  0: "circle"']
    for name in names:
        number, cx, _, width, _ = map(float, (tmp_path / f"labels/{name}.txt").read_text().split())
        assert number == 0
        assert (cx - width / 2) * 240 == pytest.approx(boxes[f"{name}.png"][0], abs=0.01)
    assert "<title>" in (tmp_path / "report.html").read_text()
    assert sum(line.count("blue_circle") for line in (tmp_path / "report/index.js").read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_dry_run_writes_nothing(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    lines = groundcli("annotate", photos, "--out", tmp_path / "out", "--dry-run").stdout.splitlines()
    assert lines[:4] == [
        "32 images found, 32 with captions; 32 captions",
        *["a blue circle  ->  a blue circle"] * 3,
    ]
    assert len(lines) == 5
    assert lines[4].startswith("about ")
    assert lines[4].endswith(" MB, by 8 images tried")
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_a_folder_that_cannot_be_written(photos: Path, groundcli: Run) -> None:
    done = groundcli("annotate", photos, "--out", "/proc/out", code=3)
    reason = "No such file or directory"
    assert done.stderr == f"error: /proc/out: can't be written ({reason}); what was done is kept\n"
