"""All commands of `groundcli`, a file a command."""

import typer

from groundcli.cli import annotate, evaluate, finetune, merge, pretrain_elmo, train, weights

app = typer.Typer(
    help="Points at what a caption talks about. It learns from image-caption pairs alone: nobody draws a box.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("annotate")(annotate.annotate)
app.command("merge")(merge.merge)
app.command("eval")(evaluate.evaluate)
app.command("train")(train.train)
app.command("finetune")(finetune.finetune)
app.command("pretrain-elmo")(pretrain_elmo.pretrain_elmo)
app.add_typer(weights.app, name="weights")
