"""`groundcli train`: a model from image-caption pairs."""

import math
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from groundcli.cli import learning
from groundcli.cli.options import Device, ElmoBackend, Precision, rank_console


def train(
    context: typer.Context,
    dataset: Annotated[list[str], typer.Option(help="Name of a data set, or folder: images with captions.")],
    data: Annotated[list[Path], typer.Option(help="The data set's folder; several to learn from all of them.")],
    out: Annotated[Path, typer.Option(help="The run's folder: checkpoints, metrics, cached features.")],
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or path of its file.")] = "lite",
    weight: learning.Weight = None,
    split: learning.Split = "train",
    settings: learning.Settings = None,
    resume: learning.Resume = False,
    cache_features: learning.CacheFeatures = None,
    save_every: learning.SaveEvery = "10m",
    limit: learning.Limit = None,
    evaluation: learning.Evaluation = None,
    allow_evaluation_images: learning.AllowEvaluationImages = False,
    untrained: Annotated[
        bool,
        typer.Option("--untrained", help="Try it without weights: a random CNN and ELMo; points mean nothing."),
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    elmo_backend: ElmoBackend = "groundcli",
) -> None:
    """Trains a model; boxes of the validation split, where there are any, choose the best epoch and nothing else."""
    from groundcli.recipe import load_recipe
    from groundcli.training import loop, sources
    from groundcli.weights.files import BEST

    console = rank_console()
    chosen = load_recipe(recipe, settings or ())
    options = learning.run_options(
        context, console, out, cache_features, resume, save_every, device, precision, elmo_backend
    )
    named = learning.sources_of(dataset, data, weight or ())
    validate = bool(chosen.training.validate_every)
    found = sources.load(named, split, partial(console.print, markup=False), limit=limit, validate=validate)
    if untrained:
        console.print(
            "WARNING: --untrained: the CNN and the ELMo are random; points will mean nothing.", style="bold red"
        )
    kept = "to choose the best epoch by"
    learning.look_at(found, kept, named, out, evaluation or (), allow_evaluation_images, console)
    outcome = loop.train(chosen, found, options, untrained=untrained)
    note = "" if math.isnan(outcome.best) else f", {outcome.title} {100 * outcome.best:.2f} %"
    note += "; on a RANDOM CNN and ELMo (--untrained)" if untrained else ""
    console.print(f"{out / BEST}: the best epoch{note}")
