import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from groundcli.checkpoint import load
from tests.cli.conftest import Run
from tests.shapes import write_shapes

pytestmark = pytest.mark.slow
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def train(folder: Path, epochs: int) -> list[object]:
    """The command, with so many epochs before tuning and one of it."""
    settings = [
        f"training.epochs={epochs}", "training.tuning.epochs=1", "training.batch_size=8", "training.warmup=2",
        "model.visual.image_size=64",
        "model.visual.grid=4", "training.image_size=64", "training.grid=4",
    ]  # fmt: skip
    return ["train", "--dataset", "folder", "--data", folder, *(w for setting in settings for w in ("--set", setting))]


def test_two_processes_learn_as_one(groundcli: Run, tmp_path: Path) -> None:
    write_shapes(tmp_path / "shapes")
    common = train(tmp_path / "shapes", epochs=1)
    command = [*TORCHRUN, "-m", "groundcli", *common, "--out", tmp_path / "two"]
    two = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert two.returncode == 0, two.stderr
    losses = {}
    for name, done in (("one", groundcli(*common, "--out", tmp_path / "one")), ("two", two)):
        assert done.stdout.count("32 images to learn from") == 1  # one rank alone prints
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [line["loss"] for line in lines]
    assert len(losses["one"]) == 10  # four steps and their epoch, written once; and as much of tuning
    assert losses["two"] == pytest.approx(losses["one"], abs=1e-4)


@pytest.mark.parametrize("killed", [0, 1])
def test_when_a_rank_dies_the_others_end(groundcli: Run, tmp_path: Path, killed: int) -> None:
    """Within a minute and with one line; what was saved is whole."""
    write_shapes(tmp_path / "shapes")
    out, logs = tmp_path / "out", tmp_path / "logs"
    command = [*TORCHRUN, "--redirects", "3", "--log-dir", logs, "-m", "groundcli"]
    command += [*train(tmp_path / "shapes", epochs=1000), "--out", out, "--save-every", "1"]
    agent = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (out / "previous.safetensors").exists():  # it was saved twice
            assert agent.poll() is None, [path.read_text() for path in logs.rglob("*.log")]
            time.sleep(0.05)
        children = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True, check=True)
        ranks = {rank_of(int(pid)): int(pid) for pid in children.stdout.split()}
        os.kill(ranks[killed], signal.SIGKILL)
        agent.wait(60)
    finally:
        agent.kill()
    (errors,) = (path.read_text() for path in logs.rglob(f"{1 - killed}/stderr.log"))
    (line,) = [line for line in errors.splitlines() if "[Gloo]" not in line]
    assert line.startswith("error: another process of this run has ended (")
    assert line.endswith("); give the same command with --resume")
    saved = out / "last.safetensors"
    load(saved if saved.exists() else out / "previous.safetensors")  # killed between the two renames of a save


def rank_of(process: int) -> int:
    """Of those that torchrun started."""
    environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return int(dict(line.partition(b"=")[::2] for line in environment)[b"RANK"])
