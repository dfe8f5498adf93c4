"""A run of annotate is stopped at every call by which it writes: killed, out of disk, at a bad sector.

The calls are counted, `open`, `write`, `rename`, `unlink`, `mkdir` and `fsync`, and for each of them a run is made in a
process of its own in which that call fails, or is the last thing that happens. Then the same command is given again:
everything has to be there, byte for byte as if nothing had happened.

Every tenth call is tried; `GROUNDCLI_FAULTS=1` tries all.
"""

import builtins
import errno
import io
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from groundcli.annotation import AnnotateOptions
from groundcli.annotation.run import annotate
from groundcli.answer import PhraseHeat, Reading
from groundcli.data import Caption
from groundcli.errors import GroundcliError
from tests.shapes import draw_shape

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]
EVERY = int(os.environ.get("GROUNDCLI_FAULTS", "10"))
VARYING = {"run.json"}  # dates and seconds


class Pointer:
    """Stands for a model: it finds every phrase in the middle."""

    device, on_cpu = "cpu", True
    runtime = SimpleNamespace(name="none")

    def encode_captions(self, captions: Any) -> None:
        """Nothing to encode."""

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[tuple[int, int]]:
        return [picture.size for picture in pictures]

    def reading(self) -> Reading:
        return Reading(boxes="sides")

    def phrase_heat(self, size: tuple[int, int], captions: Sequence[Caption], encoded: None) -> PhraseHeat:
        count = sum(len(caption.phrases) for caption in captions)
        heat = np.zeros((count, 9, 9), np.float32)
        heat[:, 4, 3:6] = 0.5, 1, 0.5
        scores, nothing = np.full(count, 0.5, np.float32), np.zeros((count, 0), np.float32)
        return PhraseHeat(heat, scores, np.zeros(count, int), nothing, heat[:, :0])


class Fault:
    """Counts the calls that write, and does something at one of them."""

    def __init__(self, at: int, act: Callable[[], None]):
        self.count, self.at, self.act = 0, at, act

    def step(self, before: Callable[[], Any] = lambda: None) -> None:
        self.count += 1
        if self.count == self.at:
            before()
            self.act()

    def install(self) -> None:
        """For the rest of this process."""
        fault, opened = self, io.open

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                fault.step(lambda: super(Raw, self).write(data[: len(data) // 2]))  # half of it is there
                return super().write(data)

        def open_counted(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if not set(mode) & set("wax+") or isinstance(file, int) or "opener" in more:
                return opened(file, mode, *rest, **more)
            more |= zip(("buffering", "encoding", "errors", "newline"), rest, strict=False)
            fault.step()
            raw = Raw(file, mode.replace("b", "").replace("t", ""))
            if more.get("buffering") == 0:
                return raw
            buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            text = {name: more.get(name) for name in ("encoding", "errors", "newline")}
            return buffer if "b" in mode else io.TextIOWrapper(buffer, **text)

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*arguments: Any, **more: Any) -> Any:
                fault.step()
                return call(*arguments, **more)

            return called

        io.open = builtins.open = open_counted  # type: ignore[assignment]
        for name in ("replace", "rename", "unlink", "mkdir", "rmdir", "fsync"):
            setattr(os, name, counted(getattr(os, name)))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def bad_sector() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def options(folder: Path, out: Path) -> AnnotateOptions:
    return AnnotateOptions.make(
        images=folder / "photos", out=out, batch_size=2, workers=1, save_heatmaps=True, format=["jsonl", "csv"]
    )


def run(folder: Path, out: Path, fault: Fault) -> int:
    """Runs in a process of its own. Gives how it ended: 0, 3 for an error that is told, 9 where it was killed, or 1."""
    child = os.fork()
    if not child:
        code = 1
        try:
            fault.install()
            annotate(options(folder, out), grounder=Pointer())  # type: ignore[arg-type]
            code = 0
        except (GroundcliError, OSError) as error:
            code = 3
            (folder / "said").write_bytes(str(error).encode())
        finally:
            (folder / "count").write_bytes(str(fault.count).encode())
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def contents(out: Path) -> dict[str, bytes]:
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if not path.is_dir()}
    return {name: path.read_bytes() for name, path in files.items() if name not in VARYING}


def parsed_or_absent(out: Path) -> None:
    """What has its final name is whole, whenever somebody looks."""
    for name in ("annotations.json", "results.json", "run.json", "positions.json"):
        if (out / name).exists():
            json.loads((out / name).read_bytes())
    for picture in [*out.rglob("overlays/*.jpg"), *out.rglob("thumbnails/*.jpg")]:
        with Image.open(picture) as image:
            image.load()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    for i in range(5):
        path = folder / f"photos/{i}.png"
        path.parent.mkdir(exist_ok=True)
        draw_shape("red", "circle", (20 * i, 30)).save(path)
        path.with_suffix(".txt").write_text("[a red circle] on [grey]\n")
    (folder / "photos/3.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, bytes], int]]:
    """An undisturbed run's files, and how many calls it made."""
    out = tmp_path_factory.mktemp("whole") / "out"
    weights = SimpleNamespace(name="lite", path=folder / "photos/0.txt", untrained=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("groundcli.annotation.run.open_model", lambda name: weights)  # to read it takes a second per run
        annotate(options(folder, out.with_name("first")), grounder=Pointer())  # type: ignore[arg-type]
        yield from _whole(folder, out)


def _whole(folder: Path, out: Path) -> Iterator[tuple[dict[str, bytes], int]]:
    assert run(folder, out, Fault(0, die)) == 0
    yield contents(out), int((folder / "count").read_text())


@pytest.mark.parametrize("act", [die, no_space, bad_sector])
def test_stopped_at_every_call_that_writes(
    folder: Path, whole: tuple[dict[str, bytes], int], act: Callable[[], None]
) -> None:
    expected, calls = whole
    assert calls > 60
    assert "tracebacks.txt" not in expected
    ends: dict[int, int] = {}
    photos = contents(folder / "photos")
    for at in range(1, calls + 1, EVERY):
        place = Path(tempfile.mkdtemp(dir=folder))
        out = place / "out"
        end = run(folder, out, Fault(at, act))
        ends[end] = ends.get(end, 0) + 1
        assert end in ((9,) if act is die else (0, 3)), (at, end)
        parsed_or_absent(out)
        assert run(folder, out, Fault(0, act)) == 0, (at, (folder / "said").read_text())
        assert contents(out) == expected, at
        shutil.rmtree(place)
    assert contents(folder / "photos") == photos
    print(f"{act.__name__}: {calls} calls that write, {sum(ends.values())} tried, ends {ends}", file=sys.stderr)
