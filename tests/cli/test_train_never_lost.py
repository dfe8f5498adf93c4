"""Runs that are killed or stopped, each in a process of its own; that are damaged, or meet a full disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from groundcli.checkpoint import load, save
from groundcli.training.state import RunState
from tests.cli.conftest import Run, small_files
from tests.shapes import draw_shape, write_shapes

SETTINGS = [
    "training.epochs=2", "training.tuning.epochs=2", "training.tuning.mirror=true", "training.batch_size=4",
    "training.warmup=2", "model.visual.image_size=64",
    "model.visual.grid=4", "training.image_size=64", "training.grid=4", "training.ema=0.9", "training.clip_norm=5",
]  # fmt: skip
pytestmark = pytest.mark.slow
TIMES = {"seconds": 0, "waited": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "a", copies=2)
    write_shapes(folder / "b", copies=1, seed=1)
    two = ["--data", folder / "a", "--data", folder / "b", "--weight", 1, "--weight", 2]  # 16 and twice 8 an epoch
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return ["--dataset", "folder", *two, "--cache-features", folder / "cache", *settings]


@pytest.fixture(scope="module")
def undisturbed(data: list[object], groundcli: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    groundcli("train", *data, "--out", out)
    return out


def start(data: list[object], out: Path, when: Callable[[int], bool], number: int) -> "subprocess.Popen[str]":
    """Begins a run that saves every third step, and sends it a signal once its metrics have come to a step."""
    with training(data, out) as process:
        wait_for(out, when, process)
        process.send_signal(number)
        process.wait(60)
    return process


@contextmanager
def training(data: list[object], out: Path) -> Iterator["subprocess.Popen[str]"]:
    """A run in a process of its own, that doesn't outlive the block."""
    command = [sys.executable, "-m", "groundcli", "train", *data, "--out", out, "--save-every", "3"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(out: Path, when: Callable[[int], bool], process: "subprocess.Popen[str]") -> None:
    """Until the metrics have come to a step, or the run to its end."""
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and when(len(metrics.read_text().splitlines()))):
        time.sleep(0.002)


def check_same(resumed: Path, undisturbed: Path) -> None:
    """Bit for bit: weights, moments of the optimizer, random states, and every line of the metrics but its times."""
    ours, theirs = load(resumed / "last.safetensors"), load(undisturbed / "last.safetensors")
    assert ours[1] == theirs[1]
    assert ours[0].keys() == theirs[0].keys()
    assert all(torch.equal(ours[0][name], theirs[0][name]) for name in theirs[0])
    lines = [
        [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (resumed, undisturbed)
    ]
    assert [{**line, **TIMES} for line in lines[0]] == [{**line, **TIMES} for line in lines[1]]


def test_killed_in_the_middle_of_an_epoch(
    data: list[object], undisturbed: Path, groundcli: Run, tmp_path: Path
) -> None:
    killed = start(data, tmp_path, lambda lines: lines >= 13, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    state = load(tmp_path / "last.safetensors")[1]
    assert state["epoch"] < 4
    assert state["batch"]
    groundcli("train", *data, "--out", tmp_path, "--resume")
    check_same(tmp_path, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_after_the_step(
    data: list[object], undisturbed: Path, groundcli: Run, tmp_path: Path, number: int
) -> None:
    stopped = start(data, tmp_path, lambda lines: lines >= 5, number)
    assert stopped.returncode == 130
    assert stopped.stderr is not None
    told = stopped.stderr.read()
    assert "go on with the same command and --resume" in told
    assert len(told.splitlines()) == 1
    groundcli("train", *data, "--out", tmp_path, "--resume")
    check_same(tmp_path, undisturbed)


def test_killed_between_an_epochs_line_and_its_state(
    data: list[object], undisturbed: Path, groundcli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PulledPlug(BaseException):
        pass

    def save_once(state: RunState, out: Path) -> None:
        if state.values["epoch"] == 2:
            raise PulledPlug
        write(state, out)

    write = RunState.save
    monkeypatch.setattr(RunState, "save", save_once)
    with pytest.raises(PulledPlug):
        groundcli("train", *data, "--out", tmp_path, "--save-every", "8")  # its last step is saved, too
    monkeypatch.undo()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "lr" not in line] == [1, 2]
    groundcli("train", *data, "--out", tmp_path, "--resume")
    check_same(tmp_path, undisturbed)


@pytest.mark.parametrize("damage", ["cut", "changed", "not finite"])
def test_a_damaged_state_falls_back_to_the_one_before(
    data: list[object], undisturbed: Path, groundcli: Run, tmp_path: Path, damage: str
) -> None:
    start(data, tmp_path, lambda lines: lines >= 12, signal.SIGTERM)
    last = tmp_path / "last.safetensors"
    content = bytearray(last.read_bytes())
    if damage == "cut":
        last.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        content[-5] ^= 1
        last.write_bytes(content)
    else:
        tensors, values = load(last)
        tensors["model/visual_mapping.scale"][0] = torch.nan
        save(last, tensors, values)
    done = groundcli("train", *data, "--out", tmp_path, "--resume")
    assert "going on from previous.safetensors, the one before" in done.stdout
    check_same(tmp_path, undisturbed)


def test_a_full_disk_destroys_no_checkpoint(
    data: list[object], tmp_path: Path, groundcli: Run, undisturbed: Path
) -> None:
    start(data, tmp_path, lambda lines: lines >= 12, signal.SIGTERM)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    assert before.keys() >= {"last.safetensors", "previous.safetensors"}
    with small_files(1 << 20):
        full = groundcli("train", *data, "--out", tmp_path, "--resume", code=3)
    assert "last.safetensors: can't be written" in full.stderr or "best.safetensors: can't be written" in full.stderr
    assert len(full.stderr.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]
    groundcli("train", *data, "--out", tmp_path, "--resume")
    check_same(tmp_path, undisturbed)


def test_a_loss_that_is_no_number_names_its_images(data: list[object], tmp_path: Path, groundcli: Run) -> None:
    diverging = [*data, "--set", "training.learning_rate=1e38", "--set", "training.warmup=8"]
    done = groundcli("train", *diverging, "--out", tmp_path, "--save-every", "1", code=3)
    assert "the loss is not a number in epoch 1, on " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    named = (tmp_path / "not_a_number.txt").read_text().splitlines()
    assert len(named) == 4
    assert all((Path(str(data[3])) / name).is_file() for name in named)
    load(tmp_path / "last.safetensors")


def test_the_second_run_in_a_folder_is_refused(
    data: list[object], undisturbed: Path, groundcli: Run, tmp_path: Path
) -> None:
    """And the first one goes on as if nothing had been."""
    with training(data, tmp_path) as first:
        wait_for(tmp_path, lambda lines: lines >= 2, first)
        first.send_signal(signal.SIGSTOP)  # so that it is there for as long as the second one looks
        said = f"error: {tmp_path}: another groundcli is at work there; wait for it or name another folder\n"
        assert groundcli("train", *data, "--out", tmp_path, "--resume", code=2).stderr == said
        first.send_signal(signal.SIGCONT)
        assert first.wait(600) == 0
    check_same(tmp_path, undisturbed)


def test_images_that_vanish_or_break_between_epochs_are_left_out(groundcli: Run, tmp_path: Path) -> None:
    folder, out = tmp_path / "shapes", tmp_path / "out"
    write_shapes(folder)
    data = ["--dataset", "folder", "--data", folder, *(word for setting in SETTINGS for word in ("--set", setting))]
    with training(data, out) as run:
        wait_for(out, lambda lines: lines >= 1, run)
        run.send_signal(signal.SIGSTOP)
        (folder / "blue_circle_0.png").unlink()
        (folder / "red_square_0.png").write_bytes(b"no picture")
        draw_shape("red", "square", (90, 90)).save(folder / "green_square_0.png")
        (folder / "red_square_1.txt").write_text("captions are read once\n")
        run.send_signal(signal.SIGCONT)
        stdout, stderr = run.communicate()
    assert (run.returncode, stderr) == (0, "")
    assert stdout.count("skipped ") == 2
    assert "skipped blue_circle_0.png: " in stdout
    assert "skipped red_square_0.png: " in stdout
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "lr" not in line] == [1, 2, 3, 4]
    gone_on = groundcli("train", *data, "--out", out, "--resume", code=2)
    assert gone_on.stderr == f"error: {out}: was trained on other data; name another folder\n"


def test_a_run_from_before_a_setting_was_added_goes_on(
    data: list[object], undisturbed: Path, groundcli: Run, tmp_path: Path
) -> None:
    tensors, state = load(undisturbed / "last.safetensors")
    del state["recipe"]["training"]["mirror"]
    save(tmp_path / "last.safetensors", tensors, state)
    for name in ("best.safetensors", "metrics.jsonl"):
        shutil.copyfile(undisturbed / name, tmp_path / name)
    groundcli("train", *data, "--out", tmp_path, "--resume")


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_the_last_state_takes_the_place_of_a_lost_best(
    data: list[object], undisturbed: Path, groundcli: Run, tmp_path: Path, damage: str
) -> None:
    """Nobody measured anything here, so that the last epoch was the best one."""
    out = Path(shutil.copytree(undisturbed, tmp_path / "out"))
    best = out / "best.safetensors"
    best.unlink() if damage == "lost" else os.truncate(best, 1000)
    done = groundcli("train", *data, "--out", out, "--resume")
    assert f"{best}: " in done.stdout
    assert "; the last state takes its place until an epoch is better" in done.stdout
    ours, theirs = load(best), load(undisturbed / "best.safetensors")
    assert ours[1] == theirs[1]
    assert ours[0].keys() == theirs[0].keys()
    assert all(torch.equal(ours[0][name], theirs[0][name]) for name in theirs[0])


def test_other_data_is_not_gone_on_with(data: list[object], undisturbed: Path, groundcli: Run, tmp_path: Path) -> None:
    for limit in (5, 3):  # of so few the batch is smaller, and the recipe another one, too
        done = groundcli("train", *data, "--limit", limit, "--out", undisturbed, "--resume", code=2)
        assert "was trained on other data" in done.stderr
