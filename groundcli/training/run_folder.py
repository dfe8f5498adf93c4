"""What a training run leaves in its folder, of which nothing is ever lost: the state to go on from, and the curves."""

import json
import platform
from collections.abc import Callable, Mapping
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
RANDOM = "random"


def lock(out: Path) -> FileLock:
    """The folder for this process alone. Raises UsageError where another one is at work there."""
    out.mkdir(parents=True, exist_ok=True)
    held = FileLock(out / ".lock")
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{out}: another run is at work in this folder; name another one") from None
    return held


def save_state(
    out: Path, tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Writes all that going on takes; the state before stays as `previous.safetensors`."""
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state()
    everything = {
        **tensors,
        **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer)),
        **checkpoint.prefixed(RANDOM, random),
    }
    checkpoint.save(out / LAST, everything, state, out / PREVIOUS)


def load_state(out: Path, warn: Callable[[str], None]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
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


def restore_random(tensors: Mapping[str, Tensor]) -> None:
    """Random states as they were."""
    random = checkpoint.part(RANDOM, tensors)
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])


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
        file.write(json.dumps(run, indent=2) + "\n")
