"""A Ray of this machine, with two workers."""

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.shapes import write_shapes

pytest.importorskip("ray")
FILES = ("annotations.json", "results.json", "failures.jsonl", "annotations.jsonl")


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of one core."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2}')
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.usefixtures("two_workers")
def test_ray_gives_the_local_bytes(groundcli: Run, tmp_path: Path) -> None:
    write_shapes(tmp_path / "photos", copies=2)
    (tmp_path / "photos" / "green_circle_1.png").write_bytes(b"no picture")
    command = ("annotate", tmp_path / "photos", "--batch-size", 2, "--out")
    groundcli(*command, tmp_path / "local", code=1)
    done = groundcli(*command, tmp_path / "ray", "--engine", "ray", code=1)
    assert "16 images found, 15 done, 0 resumed, 1 failed" in done.stdout
    for name in FILES:
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes(), name
    overlays = {path.name: path.read_bytes() for path in (tmp_path / "local" / "overlays").iterdir()}
    assert overlays == {path.name: path.read_bytes() for path in (tmp_path / "ray" / "overlays").iterdir()}
    assert len(overlays) == 15
