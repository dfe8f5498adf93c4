"""What a training run leaves in its folder, of which nothing is ever lost: the state to go on from, and the curves."""

import json
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError
from groundcli.files import LOCK, is_partial, write_json
from groundcli.weights.files import BEST

LAST, PREVIOUS = "last.safetensors", "previous.safetensors"
METRICS = "metrics.jsonl"
OWN = frozenset({LAST, PREVIOUS, BEST, METRICS, LOCK, "run.json", "features", "tensorboard", "curves.png"})
Warn = Callable[[str], None]


def has_state(out: Path) -> bool:
    """Whether a folder holds a state to go on from."""
    return any((out / name).exists() for name in (LAST, PREVIOUS))


def check_folder(out: Path, resume: bool) -> None:
    """Makes the folder of a run. Raises UsageError where it holds a run, or files that no run of training wrote."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        return
    if has_state(out) or (out / BEST).exists():
        raise UsageError(f"{out} holds a run already: add --resume to go on with it, or name another folder")
    foreign = sorted(path.name for path in out.iterdir() if path.name not in OWN and not is_partial(path.name))
    if foreign:
        some = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UsageError(f"--out {out}: holds files that no training wrote ({some}); name a new folder")
    run = out / "run.json"
    if run.exists() and '"recipe"' not in run.read_text("utf-8", errors="replace"):
        raise UsageError(f"--out {out}: holds a run.json that no training wrote; name a new folder")


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
    write_json(out / "run.json", run)
