"""`groundcli finetune`: a trained model learns on, from images of one's own."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from groundcli.cli.options import Device, ElmoBackend, Precision, check_dataset, rank_console, torch_device

SHOWN = 10  # words that a warning shows


def finetune(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="Images with captions, as annotate reads them; or a data set's folder.")],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    start: Annotated[str, typer.Option("--from", help="Name of weights, checkpoint or run folder.")] = "lite",
    dataset: Annotated[str, typer.Option(help="folder, or the name of a data set: flickr30k, ...")] = "folder",
    train: Annotated[
        Literal["heads", "text", "top-levels"],
        typer.Option(help="What learns: all mappings, those of the text, or those of the later levels."),
    ] = "heads",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides a value of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, exactly where it was.")] = False,
    cache_features: Annotated[
        Path | None, typer.Option(help="Folder of cached CNN features, for any number of runs to share.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    elmo_backend: ElmoBackend = "groundcli",
) -> None:
    """Goes on learning from other images, and compares before and after on images kept aside."""
    from rich.table import Table

    from groundcli.data import datasets, folder
    from groundcli.recipe import override
    from groundcli.training.finetune import hold_out, unseen_words, vocabulary
    from groundcli.training.loop import Start
    from groundcli.training.loop import train as run
    from groundcli.training.preflight import check_data, free_disk
    from groundcli.weights.files import BEST
    from groundcli.weights.load import load_model

    console = rank_console()
    check_dataset(dataset)
    loaded = load_model(start, elmo_backend)
    gentle = f"training.learning_rate={loaded.recipe.training.learning_rate / 10}"  # it has learned most already
    recipe = override(loaded.recipe, [gentle, *(settings or ())], str(loaded.path))
    if dataset == "folder":
        samples, failures, *_ = folder.load([data])
        for failure in failures:
            console.print(f"skipped {failure.path}: {failure.reason}", markup=False)
        learning, aside = hold_out(samples, recipe.training.seed)
    else:
        learning, aside = list(datasets.load(dataset, data, "train")), list(datasets.load(dataset, data, "val"))
    if len(learning) < recipe.training.batch_size:
        console.print(f"batches of {len(learning)}, not {recipe.training.batch_size}: there are no more images")
        recipe = override(recipe, [f"training.batch_size={len(learning)}"], str(loaded.path))
    unseen = unseen_words(learning, vocabulary(loaded))
    if unseen:
        words = ", ".join(f"{word} ({count})" for word, count in unseen[:SHOWN])
        more = f" and {len(unseen) - SHOWN} more" if len(unseen) > SHOWN else ""
        console.print(f"words that {loaded.name} has never seen: {words}{more}", markup=False)
    for line in [*check_data(learning), f"{len(aside)} images kept aside to compare by", free_disk(out)]:
        console.print(line, markup=False)
    outcome = run(
        recipe,
        learning,
        aside,
        out,
        cache=cache_features,
        device=torch_device(device),
        resume=resume,
        console=console,
        source=f"{loaded.name}, then {dataset}: {len(learning)} images",
        precision=precision,
        elmo_backend=elmo_backend,
        arguments={key: str(value) for key, value in context.params.items()},
        start=Start(loaded, train),
    )
    table = Table(title=f"{len(aside)} images kept aside")
    for column in ("", "before", "after"):
        table.add_column(column, justify="right")
    table.add_row(outcome.title, *(f"{100 * value:.2f} %" for value in (outcome.before, outcome.best)))
    console.print(table)
    console.print(f"{out / BEST}: the best epoch; the model before where none was better")
