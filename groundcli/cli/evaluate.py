"""`groundcli eval`: how well a model points."""

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from groundcli.cli.options import (
    Device,
    ElmoBackend,
    ElmoBackendChoice,
    Precision,
    PrecisionChoice,
    Weights,
    torch_device,
    warn_untrained,
)


class Dataset(str, Enum):
    """Data sets with boxes."""

    flickr30k = "flickr30k"


class ProtocolName(str, Enum):
    """Which phrases count."""

    default = "default"
    authors = "authors"


def evaluate(
    dataset: Annotated[Dataset, typer.Option(help="The data set, in the layout that it is published in.")],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    split: Annotated[str, typer.Option(help="Name of a list of images.")] = "val",
    weights: Weights = "lite",
    protocol: Annotated[
        ProtocolName, typer.Option(help="Which phrases count; `authors` filters as their code does.")
    ] = (ProtocolName.default),
    tolerance: Annotated[float, typer.Option(min=0, help="Pixels that a point may lie outside its box.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all numbers to this file.")] = None,
    device: Device = "auto",
    precision: Precision = PrecisionChoice.auto,
    elmo_backend: ElmoBackend = ElmoBackendChoice.groundcli,
) -> None:
    """Evaluates a model: pointing accuracy, boxes and heat, beside the baselines of the same phrases."""
    from rich.console import Console
    from rich.progress import track

    from groundcli.data import flickr30k
    from groundcli.errors import GroundcliError
    from groundcli.evaluation.run import evaluate_samples
    from groundcli.evaluation.tables import tables
    from groundcli.grounding.grounder import Grounder
    from groundcli.weights.load import load_model

    console = Console()
    samples = flickr30k.load(data, split)
    loaded = load_model(weights, elmo_backend.value)
    warn_untrained(loaded, console)
    grounder = Grounder(loaded.model, torch_device(device), precision.value)
    steps = track(samples, f"{dataset.value} {split}", console=Console(stderr=True))
    summary = evaluate_samples(grounder, steps, protocol.value, tolerance)
    result = {"dataset": dataset.value, "split": split, "weights": loaded.name, **summary}
    if loaded.untrained:
        result["untrained"] = True
    console.print(tables(result))
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise GroundcliError(f"--json {json_file}: can't be written ({error.strerror})") from None
    if result["skipped"].get("image_failed"):
        raise typer.Exit(1)
