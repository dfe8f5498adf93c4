"""The command for machines with a GPU, on a CPU."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
