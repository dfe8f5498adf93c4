"""A Ray of this machine, with two shards."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.shapes import write_shapes

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
FILES = ("annotations.json", "results.json", "failures.jsonl", "annotations.jsonl", "not_found.jsonl", "positions.json")


@pytest.fixture(scope="module", autouse=True)
def two_shards() -> Iterator[None]:
    """Room for two shards of four cores, whatever this machine has; and an end of what Ray started."""
    root = str(Path(__file__).resolve().parents[2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 8}')
        patch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
        yield
        ray.shutdown()
        logging.disable(logging.NOTSET)  # the command silences Ray's


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 images, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    write_shapes(folder, copies=2)
    (folder / "green_circle_1.png").write_bytes(b"no picture")
    return folder


def test_ray_gives_the_local_bytes(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    command = ("annotate", photos, "--batch-size", 2, "--workers", 1, "--no-report", "--out")
    groundcli(*command, tmp_path / "local", code=1)
    done = groundcli(*command, tmp_path / "ray", "--engine", "ray", code=1)
    assert done.stdout.splitlines()[-1] == f"{tmp_path / 'ray'}: 16 images found, 15 done, 0 resumed, 1 failed"
    for name in FILES:
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes(), name
    overlays = {path.name: path.read_bytes() for path in (tmp_path / "local" / "overlays").iterdir()}
    assert overlays == {path.name: path.read_bytes() for path in (tmp_path / "ray" / "overlays").iterdir()}
    assert len(overlays) == 15
    names = [sorted(path.name for path in (tmp_path / out).iterdir()) for out in ("local", "ray")]
    assert names[0] == names[1]
    assert json.loads((tmp_path / "ray" / "run.json").read_text())["device"] == "ray, auto"


def test_the_cluster_says_which_devices_there_are(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    """Not this machine: it may have no GPU where the cluster has some."""
    done = groundcli("annotate", photos, "--engine", "ray", "--device", "cuda", "--out", tmp_path / "out", code=3)
    assert done.stderr.splitlines()[-1] == "error: the Ray cluster has no GPU; choose another --device"
