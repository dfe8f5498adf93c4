"""What a training run leaves in its folder, of which nothing is ever lost: the state to go on from, and the curves."""

import json
import platform
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError
from groundcli.output.files import replacing

LAST, PREVIOUS = "last.safetensors", "previous.safetensors"
METRICS = "metrics.jsonl"
Warn = Callable[[str], None]


def lock(out: Path) -> AbstractContextManager[object]:
    """The folder for this process alone, until a block ends. Raises UsageError where another one is at work there."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(out / ".lock").acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{out}: another run is at work in this folder; name another one") from None


def load_state(out: Path, warn: Warn) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last state that is whole; None where the folder has none. Raises GroundcliError where all are damaged."""
    errors = []
    for path in (out / LAST, out / PREVIOUS):
        if path.exists():
            try:
                found = checkpoint.load(path)
            except GroundcliError as error:
                errors.append(str(error))
                continue
            if errors:
                warn(f"{errors[0]}; going on from {path.name}, the one before")
            return found
    if errors:
        raise GroundcliError("; ".join(errors) + "; start anew in another folder")
    return None


def keep_metrics(path: Path, step: int) -> None:
    """Drops the lines of steps that come after this one: they are done again."""
    if path.exists():
        lines = [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
        path.write_text("".join(line for line in lines if json.loads(line)["step"] <= step), "utf-8")


def describe(
    out: Path,
    arguments: Mapping[str, Any],
    state: Mapping[str, Any],
    counts: Mapping[str, int],
    device: torch.device,
    ranks: int,
) -> None:
    """Writes `run.json`: everything needed to repeat the run."""
    packages = ("torch", "torchvision", "timm", "numpy", "tokenizers", "pillow")
    run = {
        "arguments": dict(arguments),
        "recipe": state["recipe"],
        "seed": state["recipe"]["training"]["seed"],
        "frozen": state["frozen"],
        "source": state["source"],
        "data": state["data"],
        "counts": dict(counts),
        "versions": {
            "groundcli": state["version"],
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "host": {
            "name": platform.node(),
            "system": platform.platform(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": torch.get_num_threads(),
            "ranks": ranks,
        },
    }
    with replacing(out / "run.json") as file:
        file.write(json.dumps(run, indent=2, default=str) + "\n")
