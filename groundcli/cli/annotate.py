"""`groundcli annotate`: the main job."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from collections.abc import Iterable

    from groundcli.data.sample import Sample


class PhraseChoice(str, Enum):
    """Which phrases of a caption."""

    auto = "auto"
    marked = "marked"
    noun = "noun"
    words = "words"
    caption = "caption"


class OnExisting(str, Enum):
    """What to do with a folder that holds a run."""

    error = "error"
    overwrite = "overwrite"
    resume = "resume"


def annotate(
    images: Annotated[list[Path], typer.Argument(help="Folders (searched to the bottom) and image files.")],
    out: Annotated[Path, typer.Option(help="Folder for annotations.json, results.json and overlays.")],
    captions: Annotated[
        Path | None, typer.Option(help="File or folder of captions. Default: found beside the images.")
    ] = None,
    phrase: Annotated[list[str] | None, typer.Option(help="A phrase to look for in every image; repeatable.")] = None,
    phrases: Annotated[PhraseChoice, typer.Option(help="auto: those marked in brackets, else noun phrases.")] = (
        PhraseChoice.auto
    ),
    weights: Weights = "lite",
    batch_size: Annotated[int, typer.Option(min=1, help="Images encoded together.")] = 8,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Draw a picture an image.")] = True,
    on_existing: Annotated[OnExisting, typer.Option(help="What to do where OUT holds a run already.")] = (
        OnExisting.error
    ),
    device: Device = "auto",
    precision: Precision = PrecisionChoice.auto,
    elmo_backend: ElmoBackend = ElmoBackendChoice.groundcli,
) -> None:
    """Points at every phrase of every caption: COCO annotations and overlay pictures."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    import groundcli
    from groundcli.data import folder
    from groundcli.grounding.grounder import Grounder
    from groundcli.output.annotate import FAILURES
    from groundcli.output.annotate import annotate as run
    from groundcli.weights.files import sha256
    from groundcli.weights.load import load_model

    console = Console(soft_wrap=True, highlight=False)
    found = folder.load(images, captions, phrase or ())
    loaded = load_model(weights, elmo_backend.value)
    warn_untrained(loaded, console)
    grounder = Grounder(loaded.model, torch_device(device), precision.value)
    about = {
        "version": groundcli.__version__,
        "weights": {"name": loaded.name, "sha256": sha256(loaded.path), "untrained": loaded.untrained},
        "arguments": {
            "images": [str(path) for path in images],
            "captions": captions and str(captions),
            "phrase": phrase or [],
            "phrases": phrases.value,
            "overlays": overlays,
            "precision": precision.value,
            "elmo_backend": elmo_backend.value,
        },
    }
    columns = (TextColumn("annotating"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn())

    def progress(todo: "Iterable[Sample]") -> "Iterable[Sample]":
        with Progress(*columns, console=Console(stderr=True)) as bar:
            yield from bar.track(todo)

    count = run(
        grounder,
        found,
        out,
        phrases=phrases.value,
        batch_size=batch_size,
        overlays=overlays,
        on_existing=on_existing.value,
        run=about,
        progress=progress,
    )
    problems = (out / FAILURES).read_text("utf-8").splitlines()
    if problems:
        console.print(f"{len(problems)} images or captions could not be used: see {out / FAILURES}")
    console.print(
        f"{out}: {count.found} images found, {count.done} done, {count.resumed} resumed, {count.failed} failed"
    )
    if problems:
        raise typer.Exit(1)
