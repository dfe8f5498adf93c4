"""`groundcli weights`: what recipes need, and how it comes here and goes elsewhere."""

import typer

from groundcli.cli.console import Plain, output
from groundcli.errors import legible
from groundcli.weights import ExportOptions, FetchOptions, ImportOptions, ListOptions, VerifyOptions


def list_weights(options: ListOptions) -> None:
    """Lists what recipes need and what is here."""
    import json
    from dataclasses import asdict
    from textwrap import wrap

    from groundcli.weights.inventory import inventory
    from groundcli.weights.store import store

    known = inventory()
    if options.json:
        typer.echo(json.dumps([asdict(weights) for weights in known], indent=2))
        return
    console = Plain(highlight=False, markup=False, emoji=False)
    width = max(len(weights.name) for weights in known)
    for weights in known:
        size = f"{weights.megabytes:.{1 if weights.megabytes < 10 else 0}f} MB"
        first = f"{weights.name:{width}}  {weights.what:11}  {weights.here:7}  {size:>7}  {weights.licence}"
        console.print(first.rstrip(), style="bold", soft_wrap=True)
        for word, text in (("from", weights.source), ("for", ", ".join(weights.used_by))):
            if text:
                for line in wrap(f"{word} {text}", console.width, initial_indent="  ", subsequent_indent="    "):
                    console.print(line, soft_wrap=True)
    output().print(f"store: {store()}")


def fetch_weights(options: FetchOptions) -> None:
    """Downloads published weights, beginning where an earlier download ended."""
    for name in options.names:
        output().print(_fetch(name))


def _fetch(name: str) -> str:
    """Downloads under a progress bar per file."""
    from rich import progress
    from rich.console import Console

    from groundcli.weights.fetch import fetch

    name_of, speed = progress.TextColumn("{task.description}", markup=False), progress.TransferSpeedColumn()
    columns = name_of, progress.BarColumn(), progress.DownloadColumn(), speed, progress.TimeRemainingColumn()
    tasks: dict[str, progress.TaskID] = {}
    bar = progress.Progress(*columns, console=Console(stderr=True))

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


def import_weights(options: ImportOptions) -> None:
    """Takes weights from their original files; what they are is told by their content."""
    from groundcli.weights.imports import import_weights as run

    imported = run(options.source, options.name)
    for line in (str(imported), *(f"needs {need}" for need in imported.needs)):
        output().print(line)


def verify_weights(options: VerifyOptions) -> None:
    """Checks files, tensors and a forward pass."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from groundcli.weights.inventory import verify
    from groundcli.weights.store import here

    table = Table("name", "check", box=box.HORIZONTALS, pad_edge=False, collapse_padding=True)
    table.add_column("result", overflow="fold")
    failed = False
    for name in options.names or here():
        for i, check in enumerate(verify(name)):
            cells = ("" if i else name, check.what, check.result)
            table.add_row(*(Text(legible(cell)) for cell in cells), style=None if check.ok else "red")
            failed |= not check.ok
        table.add_section()
    Console(highlight=False).print(table)
    if failed:
        raise typer.Exit(1)


def export_weights(options: ExportOptions) -> None:
    """Writes a trained model: as one file to share, its tensors and its recipe; or for ONNX Runtime."""
    from groundcli.files import megabytes, sha256
    from groundcli.weights.export import export, export_onnx

    console, out = output(), options.out
    if options.format == "onnx":
        *files, words = export_onnx(options.run, out, options.int8)
        for file in files:
            console.print(f"{file}: {megabytes(file):.1f} MB")
        console.print(f"vectors of word pieces: {words}")
        return
    parts = export(options.run, out)
    console.print(f"{out}: {megabytes(out):.1f} MB, SHA-256 {sha256(out)}")
    console.print(f"elsewhere: groundcli weights import {out.name}")
    for part, way in parts.items():
        console.print(f"it stands on {part}: {way}")
