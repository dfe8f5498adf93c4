import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.shapes import write_shapes


@pytest.mark.slow
def test_two_processes_learn_as_one(groundcli: Run, tmp_path: Path) -> None:
    write_shapes(tmp_path / "shapes")
    settings = [
        "training.epochs=1", "training.tuning.epochs=1", "training.batch_size=8", "training.warmup=2",
        "model.visual.image_size=64",
        "model.visual.grid=4", "training.image_size=64", "training.grid=4",
    ]  # fmt: skip
    common = ["train", "--dataset", "folder", "--data", tmp_path / "shapes"]
    common += [word for setting in settings for word in ("--set", setting)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "groundcli", *common, "--out", tmp_path / "two"]
    two = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert two.returncode == 0, two.stderr
    losses = {}
    for name, done in (("one", groundcli(*common, "--out", tmp_path / "one")), ("two", two)):
        assert done.stdout.count("32 images to learn from") == 1  # one rank alone prints
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [line["loss"] for line in lines]
    assert len(losses["one"]) == 10  # four steps and their epoch, written once; and as much of tuning
    assert losses["two"] == pytest.approx(losses["one"], abs=1e-4)
