"""Options that several commands share."""

from typing import TYPE_CHECKING, Annotated

import typer

from groundcli.errors import GroundcliError, UsageError

if TYPE_CHECKING:
    import torch

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; auto takes a GPU where there is one.")]
Weights = Annotated[str, typer.Option(help="Name of shipped weights, or path of a checkpoint.")]


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
