"""All commands of `groundcli`, a file per command or family of commands."""

from typing import Annotated

import typer

import groundcli
from groundcli.annotation import AnnotateOptions, ExportOptions, MergeOptions
from groundcli.cli import annotate, evaluate, train, weights
from groundcli.cli.options import add_command
from groundcli.evaluation import CalibrateOptions, EvaluateOptions
from groundcli.training import FinetuneOptions, PretrainElmoOptions, TrainOptions

app = typer.Typer(
    help="Points at what a caption talks about. It learns from image-caption pairs alone: nobody draws a box.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"groundcli {groundcli.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


add_command(app, "annotate", AnnotateOptions, annotate.annotate)
add_command(app, "merge", MergeOptions, annotate.merge)
add_command(app, "export", ExportOptions, annotate.export)
add_command(app, "eval", EvaluateOptions, evaluate.evaluate)
add_command(app, "calibrate", CalibrateOptions, evaluate.calibrate)
add_command(app, "train", TrainOptions, train.train)
add_command(app, "finetune", FinetuneOptions, train.finetune)
add_command(app, "pretrain-elmo", PretrainElmoOptions, train.pretrain_elmo)
app.add_typer(weights.app, name="weights")
