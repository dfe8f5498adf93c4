"""`groundcli weights`: what recipes need, and how it comes here and goes elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Lists, downloads, imports, verifies and exports weights.", no_args_is_help=True)


@app.command("list")
def list_weights() -> None:
    """Lists what recipes need and what is here."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from groundcli.weights.files import store
    from groundcli.weights.inventory import inventory

    table = Table(box=box.HORIZONTALS, show_lines=True, pad_edge=False, collapse_padding=True)
    table.add_column("name", no_wrap=True)
    table.add_column("what", max_width=6)
    table.add_column("used by", no_wrap=True)
    table.add_column("here")
    table.add_column("MB", justify="right")
    table.add_column("licence", no_wrap=True)
    table.add_column("from", overflow="fold")
    for row in inventory():
        size = f"{row.megabytes:.1f}" if row.megabytes < 10 else f"{row.megabytes:.0f}"
        table.add_row(row.name, row.what, "\n".join(row.used_by), row.here, size, row.licence, row.source)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"store: {store()}", markup=False, soft_wrap=True)


@app.command("fetch")
def fetch_weights(names: Annotated[list[str], typer.Argument(help="Names from `groundcli weights list`.")]) -> None:
    """Downloads published weights, going on where an earlier download ended."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    for name in names:
        console.print(_fetch(name), markup=False)


def _fetch(name: str) -> str:
    """Downloads under a progress bar a file."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from groundcli.weights.fetch import fetch

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    tasks: dict[str, TaskID] = {}
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))

    def report(file: str, done: int, total: int | None) -> None:
        if file not in tasks:
            bar.start()
            tasks[file] = bar.add_task(file)
        bar.update(tasks[file], completed=done, total=total)

    try:
        return fetch(name, report)
    finally:
        if tasks:
            bar.stop()


@app.command("import")
def import_weights(
    source: Annotated[
        Path, typer.Argument(help="A CNN's, ELMo's or model's file, a word-piece model's folder, or a folder above.")
    ],
    name: Annotated[str, typer.Option(help="What to call it. Default: what it was published as.")] = "",
) -> None:
    """Takes weights from their original files; what they are is told by their content."""
    from rich.console import Console

    from groundcli.weights.imports import import_weights as run

    console = Console(soft_wrap=True, highlight=False)
    imported = run(source, name)
    console.print(str(imported), markup=False)
    for need in imported.needs:
        console.print(f"needs {need}", markup=False)


@app.command("verify")
def verify_weights(
    names: Annotated[list[str] | None, typer.Argument(help="Names or paths. Default: all that is here.")] = None,
) -> None:
    """Checks files, tensors and a forward pass."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from groundcli.weights.files import here
    from groundcli.weights.verify import verify

    table = Table("name", "check", box=box.HORIZONTALS, pad_edge=False, collapse_padding=True)
    table.add_column("result", overflow="fold")
    failed = False
    for name in names or here():
        for i, check in enumerate(verify(name)):
            table.add_row("" if i else name, check.what, check.result, style=None if check.ok else "red")
            failed |= not check.ok
        table.add_section()
    Console(highlight=False).print(table)
    if failed:
        raise typer.Exit(1)


@app.command("export")
def export_weights(
    run: Annotated[str, typer.Argument(help="A run's folder, a checkpoint, or a name.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
) -> None:
    """Writes a trained model as one file to share: its tensors and its recipe."""
    from rich.console import Console

    from groundcli.files import megabytes
    from groundcli.weights.export import export
    from groundcli.weights.files import sha256

    console = Console(soft_wrap=True, highlight=False)
    exported = export(run, out)
    console.print(f"{exported.path}: {megabytes(exported.path):.1f} MB, SHA-256 {sha256(exported.path)}", markup=False)
    console.print(f"elsewhere: groundcli weights import {exported.path.name}", markup=False)
    for part, way in exported.parts.items():
        console.print(f"it stands on {part}: {way}", markup=False)
