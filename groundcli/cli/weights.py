"""`groundcli weights`: what ships, and how it came here."""

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Lists the weights that ship, and imports frozen parts from their original files.", no_args_is_help=True
)


class Part(str, Enum):
    """What can be imported."""

    tf_efficientnet_lite0 = "tf_efficientnet_lite0"
    tf_efficientnet_lite1 = "tf_efficientnet_lite1"
    tf_efficientnet_lite2 = "tf_efficientnet_lite2"
    word_pieces = "word_pieces"


@app.command("list")
def list_weights() -> None:
    """Lists the weights that ship, with their sizes and hashes."""
    from rich.console import Console
    from rich.table import Table

    from groundcli.weights.files import find, sha256, shipped

    table = Table("name", "MB", "SHA-256", title="Weights that ship")
    for name in shipped():
        path = find(name)
        files = path.iterdir() if path.is_dir() else [path]
        table.add_row(name, f"{sum(f.stat().st_size for f in files) / 1e6:.1f}", sha256(path)[:16])
    Console().print(table)


@app.command("import")
def import_weights(
    part: Annotated[Part, typer.Argument(help="A model of timm, or a table of word pieces.")],
    source: Annotated[Path, typer.Argument(help="The .pth file; for word pieces the model's folder.")],
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
) -> None:
    """Turns original weights of a frozen part into the safetensors file that recipes name."""
    from rich.console import Console
    from safetensors.torch import save_file

    from groundcli.weights.imports import import_backbone, import_word_pieces

    if part is Part.word_pieces:
        tensors, pieces = import_word_pieces(source)
        save_file(tensors, out, {"pieces": json.dumps(pieces)})
    else:
        save_file(import_backbone(part.value, source), out)
    Console().print(f"{out}: {len(tensors) if part is Part.word_pieces else 'all'} tensors of {part.value}")
