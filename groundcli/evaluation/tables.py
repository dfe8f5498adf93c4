"""An evaluation's summary as tables for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def tables(summary: Mapping[str, Any]) -> RenderableType:
    """All tables of a summary (`Evaluation.summary()`), to be printed by rich.

    "dataset", "split" and "weights" are named too where the summary has them. Fractions are shown in percent.
    """
    parts: list[RenderableType] = [Text(_title(summary), style="bold"), _overall(summary)]
    if summary["pointing"]["by_category"]:
        parts.append(_categories(summary["pointing"]["by_category"]))
    if summary["skipped"]:
        parts.append(_pairs("skipped", "phrases", {name: f"{n:,}" for name, n in summary["skipped"].items()}))
    if summary["levels"]:
        parts.append(_pairs("level chosen", "%", {name: _percent(share) for name, share in summary["levels"].items()}))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts))


def _overall(summary: Mapping[str, Any]) -> Table:
    pointing = summary["pointing"]
    low, high = pointing["ci95"]
    authors = summary["protocol"] == "authors"
    table = _table("metric", "%", "")
    rows = [
        ("pointing accuracy", pointing["accuracy"], f"95 % interval over images {_percent(low)} to {_percent(high)}"),
        ("  centre of the image", pointing["center"], "baseline, same phrases"),
        ("  random point", pointing["random"], "baseline, same phrases"),
        (
            "attention correctness",
            summary["attention_correctness"],
            "summed over boxes" if authors else "in their union",
        ),
        ("IoU accuracy", summary["iou_accuracy"], "boxes around all boxes, IoU >= 0.5"),
        *((f"box {rank}", recall, "any true box, IoU >= 0.5") for rank, recall in summary["box_recall"].items()),
    ]
    for name, share, note in rows:
        table.add_row(name, _percent(share), note)
    return table


def _title(summary: Mapping[str, Any]) -> str:
    """Whose numbers these are, and how they were counted."""
    source = " ".join(str(summary[key]) for key in ("dataset", "split", "weights") if summary.get(key))
    tolerance = summary["pointing"].get("tolerance")
    parts = [
        source,
        f"protocol {summary['protocol']}",
        f"tolerance {tolerance:g} px" if tolerance else "",
        f"{summary['phrases']:,} phrases of {summary['images']:,} images",
    ]
    return ", ".join(filter(None, parts))


def _categories(by_category: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("pointing by category", "%", "centre %", "phrases")
    for name, row in by_category.items():
        table.add_row(name, _percent(row["accuracy"]), _percent(row["center"]), f"{row['phrases']:,}")
    return table


def _pairs(name: str, unit: str, values: Mapping[str, str]) -> Table:
    table = _table(name, unit)
    for row in values.items():
        table.add_row(*row)
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right" if name else "left")
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
