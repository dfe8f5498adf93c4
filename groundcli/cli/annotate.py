"""`groundcli annotate`, `merge` and `export`: the main job, its shards made one, and other formats of it."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from groundcli.annotation import AnnotateOptions, ExportOptions, MergeOptions
from groundcli.cli import console
from groundcli.errors import counted

if TYPE_CHECKING:
    from groundcli.annotation.export import Outcome


def annotate(options: AnnotateOptions) -> None:
    """Points at every phrase of every caption: COCO annotations, overlay pictures, a page to look through."""
    from groundcli.annotation import run

    if options.dry_run:
        for line in run.plan(options):
            console.output().print(line)
        return
    with console.waiting("loading the model") as loaded:
        shown = console.shower("annotating", loaded)
        outcome = run.annotate(options, shown, console.warn_untrained)
    for note in outcome.notes:
        console.messages().print(note)
    if damaged := outcome.damaged:
        console.messages().print(f"{damaged} damaged lines of the journal were set aside, and their images done again")
    if options.report:
        console.output().print(f"look through the results: {options.out / 'report.html'}")
    _tell(options.out, outcome)


def merge(options: MergeOptions) -> None:
    """Joins what `annotate --shard 1/N` to `N/N` made, as if it had been one run."""
    from groundcli.annotation.shards import merge as run

    _tell(options.out, run(options))


def export(options: ExportOptions) -> None:
    """Makes other formats of a finished run, any number of times: the model isn't needed.

    Files go into the run's folder. Runs that go on there make them anew.
    """
    from groundcli.annotation.export import export as run

    for name in run(options):
        console.output().print(str(options.out / name))


def _tell(out: Path, outcome: "Outcome") -> None:
    counts, problems, missing, *_ = outcome
    if problems:
        console.output().print(f"{problems} images or captions could not be used: see {out / 'failures.jsonl'}")
    note = f"; {counted(missing, 'phrase')} not found" if missing else ""
    console.output().print(f"{out}: {counts}{note}")
    if problems:
        raise typer.Exit(1)
