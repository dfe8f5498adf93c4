"""`groundcli train`: a model from image-caption pairs."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from groundcli.cli.options import Device, torch_device


class Dataset(str, Enum):
    """Sources of image-caption pairs."""

    flickr30k = "flickr30k"
    folder = "folder"


def train(
    dataset: Annotated[Dataset, typer.Option(help="flickr30k, or a folder of images with captions.")],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    out: Annotated[Path, typer.Option(help="The run's folder: checkpoints, metrics, cached features.")],
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or path of its file.")] = "lite",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides a value of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last whole epoch in OUT.")] = False,
    features: Annotated[Path | None, typer.Option(help="Folder of cached features that runs may share.")] = None,
    device: Device = "auto",
) -> None:
    """Trains a model; boxes of the validation split, where there are any, choose the best epoch and nothing else."""
    from rich.console import Console

    from groundcli.data import flickr30k, folder
    from groundcli.recipe import load_recipe
    from groundcli.training.loop import BEST
    from groundcli.training.loop import train as run

    console = Console()
    chosen = load_recipe(recipe, settings or ())
    if dataset is Dataset.flickr30k:
        samples, validation = flickr30k.load(data, "train"), flickr30k.load(data, "val")
        source = f"Flickr30k Entities, train split: {len(samples)} images"
    else:
        samples, failures, _ = folder.load([data])
        validation = []
        for failure in failures:
            console.print(f"skipped {failure.path}: {failure.reason}", markup=False)
        source = f"{len(samples)} images of a folder"
    console.print(f"{len(samples)} images to learn from, {len(validation)} to choose the best epoch by")
    accuracy = run(
        chosen,
        samples,
        validation,
        out,
        cache=features,
        device=torch_device(device),
        resume=resume,
        console=console,
        source=source,
    )
    note = f", validation pointing accuracy {100 * accuracy:.2f} %" if validation else ""
    console.print(f"{out / BEST}: the best epoch{note}")
