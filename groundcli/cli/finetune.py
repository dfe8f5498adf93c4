"""`groundcli finetune`: a trained model learns on, from images of one's own."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from groundcli.cli import learning
from groundcli.cli.options import Device, ElmoBackend, Precision, rank_console

SHOWN = 10  # words that a warning shows


def finetune(
    context: typer.Context,
    data: Annotated[
        list[Path], typer.Argument(help="Images with captions, as annotate reads them; or data sets' folders.")
    ],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    start: Annotated[str, typer.Option("--from", help="Name of weights, checkpoint or run folder.")] = "lite",
    dataset: Annotated[
        list[str] | None, typer.Option(help="Name of a data set, for each of several folders in turn. Default: folder.")
    ] = None,
    train: Annotated[
        Literal["heads", "text", "top-levels"],
        typer.Option(help="What learns: all mappings, those of the text, or those of the later levels."),
    ] = "heads",
    weight: learning.Weight = None,
    split: learning.Split = "train",
    settings: learning.Settings = None,
    resume: learning.Resume = False,
    cache_features: learning.CacheFeatures = None,
    save_every: learning.SaveEvery = "10m",
    limit: learning.Limit = None,
    evaluation: learning.Evaluation = None,
    allow_evaluation_images: learning.AllowEvaluationImages = False,
    device: Device = "auto",
    precision: Precision = "auto",
    elmo_backend: ElmoBackend = "groundcli",
) -> None:
    """Goes on learning from other images, and compares before and after on images kept aside.

    A tenth of a folder's images is kept aside, of a data set its split "val". They choose the best epoch too: on images
    that chose nothing, expect a little less than the table says.
    """
    from rich.table import Table

    from groundcli.recipe import override
    from groundcli.training import loop, sources
    from groundcli.training.finetune import unseen_words, vocabulary
    from groundcli.weights.files import BEST
    from groundcli.weights.load import load_model

    console = rank_console()
    options = learning.run_options(
        context, console, out, cache_features, resume, save_every, device, precision, elmo_backend
    )
    named = learning.sources_of(dataset or ["folder"], data, weight or ())
    loaded = load_model(start, elmo_backend)
    gentle = f"training.learning_rate={loaded.recipe.training.learning_rate / 10}"  # it has learned most already
    recipe = override(loaded.recipe, [gentle, *(settings or ())], str(loaded.path))
    found = sources.load(named, split, partial(console.print, markup=False), limit=limit, aside=recipe.training.seed)
    kept = "kept aside to compare by"
    learning.look_at(found, kept, named, out, evaluation or (), allow_evaluation_images, console)
    if len(found.samples) < recipe.training.batch_size:
        console.print(f"batches of {len(found.samples)}, not {recipe.training.batch_size}: there are no more images")
        recipe = override(recipe, [f"training.batch_size={len(found.samples)}"], str(loaded.path))
    unseen = unseen_words(found.samples, vocabulary(loaded))
    if unseen:
        words = ", ".join(f"{word} ({count})" for word, count in unseen[:SHOWN])
        more = f" and {len(unseen) - SHOWN} more" if len(unseen) > SHOWN else ""
        console.print(f"words that {loaded.name} has never seen: {words}{more}", markup=False)
    found = found._replace(source=f"{loaded.name}, then {found.source}")
    outcome = loop.train(recipe, found, options, start=loop.Start(loaded, train))
    table = Table(title=f"{len(found.validation)} images kept aside")
    for column in ("", "before", "after"):
        table.add_column(column, justify="right")
    table.add_row(outcome.title, *(f"{100 * value:.2f} %" for value in (outcome.before, outcome.best)))
    console.print(table)
    console.print(f"{out / BEST}: the best epoch; the model before where none was better")
