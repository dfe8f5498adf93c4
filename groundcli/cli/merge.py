"""`groundcli merge`: the shards of a run, made one."""

from pathlib import Path
from typing import Annotated

import typer


def merge(
    shards: Annotated[list[Path], typer.Argument(help="The folders of all shards, in any order.")],
    out: Annotated[Path, typer.Option(help="Folder for the whole.")],
) -> None:
    """Joins what `annotate --shard 1/N` to `N/N` made, as if it had been one run."""
    from rich.console import Console

    from groundcli.annotation.merge import merge as run

    count, problems = run(shards, out)
    Console(soft_wrap=True, highlight=False).print(f"{out}: {count}")
    if problems:
        raise typer.Exit(1)
