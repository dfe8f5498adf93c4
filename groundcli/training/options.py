"""How a run is run, as against what it learns: the folder, the device, how often it is saved."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from groundcli.errors import UsageError
from groundcli.options import Precision


@dataclass(frozen=True)
class SaveEvery:
    """When the state is saved within an epoch, beside its end: a save takes a second, what comes after it may be lost.

    Attributes:
        minutes, steps: whichever is over first; 0 is never.
    """

    minutes: float = 10
    steps: int = 0

    def due(self, step: int, saved: float) -> bool:
        """Whether to save after a step, where the last save was at the time `saved` of `time.monotonic`."""
        return bool(self.steps and step % self.steps == 0) or bool(
            self.minutes and time.monotonic() - saved > 60 * self.minutes
        )


def parse_save_every(text: str) -> SaveEvery:
    """ "10m" is every ten minutes, "500" every 500 steps. Raises UsageError for anything else."""
    match = re.fullmatch(r"(\d+)(m?)", text)
    if not match or not int(match[1]):
        raise UsageError(f"--save-every {text}: expected minutes such as 10m, or a number of steps")
    return SaveEvery(minutes=int(match[1])) if match[2] else SaveEvery(minutes=0, steps=int(match[1]))


@dataclass(frozen=True)
class RunOptions:
    """How a run is run.

    Attributes:
        out: the run's folder.
        console: where progress is shown.
        device: where to train; `cuda` is a GPU a rank.
        cache: folder of cached features; default is one in the run's folder where the recipe caches them, else none.
        resume: go on with the run in `out`, exactly where its last state was saved.
        precision: of convolutions and matrix products.
        save_every: when the state is saved within an epoch.
        arguments: of the command, for `run.json`.
    """

    out: Path
    console: Console
    device: torch.device
    cache: Path | None = None
    resume: bool = False
    precision: Precision = "auto"
    save_every: SaveEvery = SaveEvery()
    arguments: Mapping[str, Any] = field(default_factory=dict)
