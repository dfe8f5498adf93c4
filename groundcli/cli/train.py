"""`groundcli train`: a model from image-caption pairs."""

import math
from pathlib import Path
from typing import Annotated

import typer

from groundcli.cli.options import Device, ElmoBackend, Precision, check_dataset, rank_console, torch_device


def train(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="Name of a data set, or folder: images with captions.")],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    out: Annotated[Path, typer.Option(help="The run's folder: checkpoints, metrics, cached features.")],
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or path of its file.")] = "lite",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides a value of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, exactly where it was.")] = False,
    cache_features: Annotated[
        Path | None, typer.Option(help="Folder of cached CNN features, for any number of runs to share.")
    ] = None,
    save_every: Annotated[
        str, typer.Option(metavar="10m|500", help="Save the state so often within an epoch: minutes, or steps.")
    ] = "10m",
    limit: Annotated[int | None, typer.Option(min=2, help="Learn from the first so many images only.")] = None,
    allow_evaluation_images: Annotated[
        bool, typer.Option("--allow-evaluation-images", help="Learn from images of the validation split too.")
    ] = False,
    untrained: Annotated[
        bool,
        typer.Option("--untrained", help="Try it without weights: a random CNN and ELMo; points mean nothing."),
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    elmo_backend: ElmoBackend = "groundcli",
) -> None:
    """Trains a model; boxes of the validation split, where there are any, choose the best epoch and nothing else."""
    from groundcli.data import datasets, folder
    from groundcli.recipe import load_recipe
    from groundcli.training.loop import parse_save_every
    from groundcli.training.loop import train as run
    from groundcli.training.preflight import check_data, check_leaks, free_disk
    from groundcli.weights.files import BEST

    console = rank_console()
    chosen = load_recipe(recipe, settings or ())
    check_dataset(dataset)
    if dataset != "folder":
        samples, validation = datasets.load(dataset, data, "train"), datasets.load(dataset, data, "val")
        source = f"{dataset}, train split"
    else:
        samples, failures, *_ = folder.load([data])
        validation = []
        for failure in failures:
            console.print(f"skipped {failure.path}: {failure.reason}", markup=False)
        source = "a folder"
    samples = samples[:limit]
    source = f"{source}: {len(samples)} images"
    if untrained:
        console.print(
            "WARNING: --untrained: the CNN and the ELMo are random; points will mean nothing.", style="bold red"
        )
    for line in [*check_data(samples), f"{len(validation)} images to choose the best epoch by", free_disk(out)]:
        console.print(line, markup=False)
    if not allow_evaluation_images:
        check_leaks(samples, {f"{dataset} val": validation})
    outcome = run(
        chosen,
        samples,
        validation,
        out,
        cache=cache_features,
        device=torch_device(device),
        resume=resume,
        console=console,
        source=source,
        precision=precision,
        untrained=untrained,
        elmo_backend=elmo_backend,
        arguments={key: str(value) for key, value in context.params.items()},
        save_every=parse_save_every(save_every),
    )
    note = "" if math.isnan(outcome.best) else f", {outcome.title} {100 * outcome.best:.2f} %"
    note += "; on a RANDOM CNN and ELMo (--untrained)" if untrained else ""
    console.print(f"{out / BEST}: the best epoch{note}")
