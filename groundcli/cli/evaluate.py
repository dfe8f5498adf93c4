"""`groundcli eval`: how well a model points."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from groundcli.cli import console
from groundcli.errors import legible
from groundcli.evaluation import CalibrateOptions, EvaluateOptions

if TYPE_CHECKING:
    from groundcli.evaluation.tables import Table

WIDE = 130  # columns that the tables need; a narrower terminal breaks their lines


def evaluate(options: EvaluateOptions) -> None:
    """Evaluates a model: pointing accuracy, boxes and heat, beside the baselines of the same phrases."""
    from groundcli.evaluation import rows
    from groundcli.evaluation.tables import tables, title

    with console.waiting("loading the model") as loaded:
        shown = console.shower(f"{options.dataset} {options.split}", loaded)
        wide = Console(width=max(Console().width, WIDE))
        summary = rows.evaluate(
            options,
            shown,
            console.warn_untrained,
            lambda summary: wide.print(for_terminal(title(summary), tables(summary))),
        ).summary
    if options.report:
        console.output().print(f"report: {options.report / 'report.html'}")
    if summary["skipped"].get("image_failed"):
        raise typer.Exit(1)


def calibrate(options: CalibrateOptions) -> None:
    """Makes scores probabilities: fits them to validation images, to phrases that are there and that are not.

    The numbers are of images that the fit didn't see, five parts in turn.
    """
    from groundcli.evaluation.calibrate import calibrate as run

    numbers = run(options, console.shower(f"{', '.join(options.dataset)} {options.split}"))
    presence, output = numbers["presence"], console.output()
    output.print(
        f"{numbers['phrases']:,} phrases: area under the ROC curve {presence['auroc']:.3f}, "
        f"{100 * presence['absent_above_half']:.1f} % of the absent above 0.5, "
        f"expected calibration error {100 * presence['calibration']['ece']:.1f} %; of {numbers['boxes']:,} boxes "
        f"{100 * numbers['box_ece']:.1f} %"
    )
    for name, recall in numbers["box_recall"].items():
        shares = (f"{rank} {100 * s:.1f} % ({100 * a:.1f} to {100 * b:.1f})" for rank, (s, a, b) in recall.items())
        output.print(f"{name}: {', '.join(shares)}")
    for share, score in numbers["keeps"].items():
        output.print(f"--min-score {score:.3f} keeps {100 * float(share):g} % of the right points")
    output.print(f"{options.out}: the weights, calibrated")


def for_terminal(title: str, tables: Sequence["Table"]) -> Group:
    """To be printed by rich, on a wide page: no cell is cut."""
    parts: list[RenderableType] = [Text(legible(title), style="bold"), *map(_rich, tables)]
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts))


def _rich(table: "Table") -> RichTable:
    rich = RichTable(box=None, pad_edge=False)
    for i, name in enumerate(table.header):
        rich.add_column(Text(legible(name)), justify="right" if table.is_right(i) else "left", no_wrap=True)
    for row in table.rows:
        rich.add_row(*(Text(legible(cell)) for cell in row))
    return rich
