"""Options that several commands share."""

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from groundcli.errors import GroundcliError, UsageError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from groundcli.grounding.boxes import Method
    from groundcli.grounding.grounder import Grounder
    from groundcli.weights.load import Loaded

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; auto takes a GPU where there is one.")]
Weights = Annotated[str, typer.Option(help="Name of weights (`groundcli weights list`), or path of a checkpoint.")]

Precision = Annotated[
    Literal["auto", "float32", "bf16"], typer.Option(help="auto: bf16 on a GPU that has it, else float32.")
]
ElmoBackend = Annotated[
    Literal["groundcli", "allennlp"], typer.Option(help="Whose code runs an ELMo, where the model has one.")
]
BOXES = "How boxes are got from heat maps: sides, a share of the heat for each side, or authors, as the paper does."


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


def check_dataset(name: str) -> None:
    """Raises UsageError where a name isn't a data set's."""
    from groundcli.data.datasets import DATASETS

    if name not in DATASETS:
        raise UsageError(f"--dataset {name}: expected {', '.join(sorted(DATASETS))}")


def rank_console() -> "Console":
    """The console of a program that `torchrun` may have started several times: the first process alone prints."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False, quiet=os.environ.get("RANK", "0") != "0")


def load_grounder(
    weights: str,
    device: str,
    precision: 'Literal["auto", "float32", "bf16"]',
    elmo_backend: 'Literal["groundcli", "allennlp"]',
    console: "Console",
    boxes: "Method" = "sides",
) -> "tuple[Loaded, Grounder]":
    """A trained model, ready to point; says loudly where its points mean nothing."""
    from groundcli.grounding.grounder import Grounder
    from groundcli.weights.load import load_model

    loaded = load_model(weights, elmo_backend)
    if loaded.untrained:
        console.print(
            f"WARNING: {loaded.name} stands on a random CNN and ELMo (--untrained): its points mean nothing.",
            style="bold red",
        )
    return loaded, Grounder(loaded.model, torch_device(device), precision, boxes)
