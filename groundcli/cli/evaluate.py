"""`groundcli eval`: how well a model points."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from groundcli.cli.options import BOXES, Device, ElmoBackend, Precision, Weights, load_grounder


def evaluate(
    dataset: Annotated[
        Literal["flickr30k", "coco", "coco_categories", "referit", "visual_genome", "folder"],
        typer.Option(help="The data set, in the layout that it is published in; folder: images and a COCO file."),
    ],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    split: Annotated[str, typer.Option(help="Name of a list of images; a folder's NAME.json.")] = "val",
    weights: Weights = "lite",
    protocol: Annotated[
        Literal["default", "authors"],
        typer.Option(help="Which phrases count; `authors` filters as their code does."),
    ] = "default",
    tolerance: Annotated[float, typer.Option(min=0, help="Pixels that a point may lie outside its box.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all numbers to this file.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    elmo_backend: ElmoBackend = "groundcli",
    boxes: Annotated[
        Literal["sides", "authors"] | None, typer.Option(help=f"{BOXES} Default: sides; authors by their protocol.")
    ] = None,
) -> None:
    """Evaluates a model: pointing accuracy, boxes and heat, beside the baselines of the same phrases."""
    from rich.console import Console
    from rich.progress import track

    from groundcli.data import datasets
    from groundcli.errors import GroundcliError
    from groundcli.evaluation.run import evaluate_samples
    from groundcli.evaluation.tables import tables

    console = Console()
    samples = datasets.load(dataset, data, split)
    boxes = boxes or ("authors" if protocol == "authors" else "sides")
    loaded, grounder = load_grounder(weights, device, precision, elmo_backend, console, boxes)
    steps = track(samples, f"{dataset} {split}", console=Console(stderr=True))
    summary = evaluate_samples(grounder, steps, protocol, tolerance)
    result = {"dataset": dataset, "split": split, "weights": loaded.name, "boxes": boxes, **summary}
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
