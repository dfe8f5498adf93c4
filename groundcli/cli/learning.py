"""Options and first steps that `train` and `finetune` share."""

from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from groundcli.cli.options import check_dataset, torch_device
from groundcli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from groundcli.training.options import RunOptions
    from groundcli.training.sources import Data, Source

Weight = Annotated[
    list[float] | None,
    typer.Option(min=0.001, help="How often an epoch each image is seen, for each folder in turn; once by default."),
]
Split = Annotated[str, typer.Option(help="What to learn from of a data set: train, COCO's trainval, all, ...")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides a value of the recipe.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, exactly where it was.")]
CacheFeatures = Annotated[
    Path | None, typer.Option(help="Folder of cached CNN features, for any number of runs to share.")
]
SaveEvery = Annotated[
    str, typer.Option(metavar="10m|500", help="Save the state so often within an epoch: minutes, or steps.")
]
Limit = Annotated[int | None, typer.Option(min=2, help="Learn from the first so many images of each folder only.")]
Evaluation = Annotated[
    list[str] | None,
    typer.Option(metavar="DATASET=DIR", help="Refuse images of this data set's val and test splits, too."),
]
AllowEvaluationImages = Annotated[
    bool, typer.Option("--allow-evaluation-images", help="Learn from images of evaluation splits all the same.")
]


def sources_of(datasets: Sequence[str], folders: Sequence[Path], weights: Sequence[float]) -> "list[Source]":
    """Folders with the names of their data sets (one for all, or one each) and weights (none, or one each).

    Raises:
        UsageError: other numbers of them, or a name that isn't a data set's.
    """
    from groundcli.training.sources import Source

    for dataset in datasets:
        check_dataset(dataset)
    if len(datasets) not in (1, len(folders)):
        raise UsageError(f"{len(datasets)} --dataset for {len(folders)} folders; expected one, or one for each folder")
    if len(weights) not in (0, len(folders)):
        raise UsageError(f"{len(weights)} --weight for {len(folders)} folders; expected none, or one for each folder")
    names = datasets if len(datasets) == len(folders) else repeat(datasets[0])
    return [Source(*source) for source in zip(names, folders, weights or repeat(1.0))]  # noqa: B905 - repeated ones


def look_at(
    data: "Data",
    kept: str,
    sources: "Sequence[Source]",
    out: Path,
    evaluation: Sequence[str],
    allow: bool,
    console: "Console",
) -> None:
    """Says what is there before the first step; `kept` is what the validation images are called.

    Raises:
        UsageError: images to learn from are of an evaluation split, of these sources or of `evaluation`, and `allow`
            isn't given.
        GroundcliError: nothing can be learned from the images.
    """
    from groundcli.training.preflight import check_data, check_leaks, free_disk
    from groundcli.training.sources import evaluation_splits

    for line in [*check_data(data.samples), f"{len(data.validation)} images {kept}", free_disk(out)]:
        console.print(line, markup=False)
    if allow:
        return
    held: dict = {}
    for source in [*sources, *map(_evaluation_source, evaluation)]:
        held |= evaluation_splits(source)
    console.print(check_leaks(data.samples, held), markup=False)


def _evaluation_source(text: str) -> "Source":
    from groundcli.training.sources import FOLDER

    dataset, equals, folder = text.partition("=")
    if not equals or dataset == FOLDER:
        raise UsageError(f"--evaluation {text}: expected DATASET=DIR, such as flickr30k=data/flickr30k")
    (source,) = sources_of([dataset], [Path(folder)], [])
    return source


def run_options(
    context: typer.Context,
    console: "Console",
    out: Path,
    cache: Path | None,
    resume: bool,
    save_every: str,
    device: str,
    precision: Literal["auto", "float32", "bf16"],
    elmo_backend: Literal["groundcli", "allennlp"],
) -> "RunOptions":
    """How to run, from the options of a command."""
    from groundcli.training.options import RunOptions, parse_save_every

    often = parse_save_every(save_every)
    return RunOptions(out, console, torch_device(device), cache, resume, precision, elmo_backend, often, context.params)
