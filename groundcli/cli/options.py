"""Options that several commands share."""

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from groundcli.errors import GroundcliError, UsageError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from groundcli.weights.load import Loaded

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; auto takes a GPU where there is one.")]
Weights = Annotated[str, typer.Option(help="Name of weights (`groundcli weights list`), or path of a checkpoint.")]


class PrecisionChoice(str, Enum):
    """What convolutions and matrix products are computed in."""

    auto = "auto"
    float32 = "float32"
    bf16 = "bf16"


class ElmoBackendChoice(str, Enum):
    """Whose code runs an ELMo."""

    groundcli = "groundcli"
    allennlp = "allennlp"


Precision = Annotated[PrecisionChoice, typer.Option(help="auto: bf16 on a GPU that has it, else float32.")]
ElmoBackend = Annotated[ElmoBackendChoice, typer.Option(help="Whose code runs an ELMo, where the model has one.")]


def torch_device(name: str) -> "torch.device":
    """The device of a name. Raises UsageError for a name that isn't one, GroundcliError for a device not here."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise GroundcliError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; try cpu")
    return device


def warn_untrained(loaded: "Loaded", console: "Console") -> None:
    """Says loudly where points mean nothing."""
    if loaded.untrained:
        console.print(
            f"WARNING: {loaded.name} stands on a random CNN and ELMo (--untrained): its points mean nothing.",
            style="bold red",
        )
