"""`groundcli train`, `finetune` and `pretrain-elmo`: what learns."""

import math

from groundcli.cli import console
from groundcli.training import FinetuneOptions, PretrainElmoOptions, TrainOptions


def train(options: TrainOptions) -> None:
    """Trains a model; boxes of the validation split, where there are any, choose the best epoch and nothing else."""
    from groundcli.training.loop import train as run

    output = console.output()
    if options.untrained:
        console.warn_untrained("this run")
    outcome = run(options, output)
    note = "" if math.isnan(outcome.best) else f", {outcome.title} {100 * outcome.best:.2f} %"
    note += "; on a RANDOM backbone and ELMo (--untrained)" if options.untrained else ""
    output.print(f"{outcome.weights}: the {'best' if outcome.title else 'last'} epoch{note}")


def finetune(options: FinetuneOptions) -> None:
    """Goes on learning from other images, and compares before and after on images kept aside.

    A tenth of a folder's images is kept aside, of a data set its split "val". They choose the best epoch too: on images
    that chose nothing, expect a little less than the table says.
    """
    from rich.table import Table

    from groundcli.training.loop import finetune as run

    output = console.output()
    outcome = run(options, output)
    if outcome.title:
        table = Table(title=f"{outcome.kept} images kept aside")
        for column in ("", "before", "after"):
            table.add_column(column, justify="right")
        table.add_row(outcome.title, *(f"{100 * value:.2f} %" for value in (outcome.before, outcome.best)))
        output.print(table)
    kept = "the model before: no epoch was better" if outcome.best <= outcome.before else "the best epoch"
    output.print(f"{outcome.weights}: {kept if outcome.title else 'the last epoch'}")


def pretrain_elmo(options: PretrainElmoOptions) -> None:
    """Pre-trains an ELMo language model on captions, without images."""
    from groundcli.training.language_model import pretrain_elmo as run

    output = console.output()
    result = run(options, output)
    output.print(f"{options.out}: held-out perplexity {result:.2f} after {options.epochs} epochs")
