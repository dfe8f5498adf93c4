"""`groundcli pretrain-elmo`: an ELMo from plain captions."""

from pathlib import Path
from typing import Annotated

import typer

from groundcli.cli.options import Device, torch_device


def pretrain_elmo(
    captions: Annotated[Path, typer.Argument(help="Text, a tokenised caption a line; may be .gz.")],
    out: Annotated[Path, typer.Option(help="Folder for options.json, lm_weights.hdf5 and the checkpoint.")],
    options: Annotated[Path | None, typer.Option(help="Sizes, as AllenNLP's options.json. Default: small.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the captions.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Captions a step.")] = 128,
    seed: Annotated[int, typer.Option(help="Of order, dropout and initial weights.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last epoch in OUT.")] = False,
    device: Device = "auto",
) -> None:
    """Pre-trains an ELMo language model on captions, without images."""
    from rich.console import Console

    from groundcli.recipe import RECIPES
    from groundcli.training.language_model import LanguageModelConfig, pretrain, read_captions
    from groundcli.weights.elmo_files import load_options

    console = Console()
    sizes = load_options(options or RECIPES / "elmo_laptop.json")
    config = LanguageModelConfig(epochs=epochs, batch_size=batch_size, seed=seed)
    result = pretrain(
        read_captions(captions), sizes, out, config, device=torch_device(device), resume=resume, console=console
    )
    console.print(f"{out}: held-out perplexity {result:.2f} after {epochs} epochs")
