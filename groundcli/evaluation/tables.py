"""A summary as tables of text, for the terminal, for papers and for the report's page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Numbers = Mapping[str, Any]
NAMES = {
    "center": "centre of the image",
    "random": "random point",
    "whole_image": "whole image as a box",
    "sentence_region": "largest region of the sentence's heat",
}
CALIBRATIONS = {
    "score": "score as the model gives it",
    "cross_validated": "calibrated on other images (5 folds)",
    "weights": "as the weights are calibrated",
}
METRICS = {
    "pointing": "pointing accuracy",
    "attention_correctness": "attention correctness",
    "iou_accuracy": "IoU accuracy",
}
GROUPS = {"baselines": "baseline, same phrases", "box_methods": "boxes by", "ablations": "ablation"}
COLUMNS = ("pointing", "(95 %)", "attention", "IoU", "R@1", "(95 %)", "R@5", "R@10", "bound", "merged R@1")


class Table(NamedTuple):
    """A table of text: the names of its columns, rows of as many cells, the first of each a name."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def title(summary: Numbers) -> str:
    """Whose numbers these are, and how they were counted."""
    tolerance = summary["pointing"].get("tolerance")
    parts = [
        " ".join(str(summary[key]) for key in ("dataset", "split", "weights") if summary.get(key)),
        f"protocol {summary['protocol']}",
        f"tolerance {tolerance:g} px" if tolerance else "",
        f"boxes by {summary['boxes']}" if "boxes" in summary else "",
        "phrases encoded alone" if summary["encode"] == "phrase" else "whole captions encoded",
        f"{summary['phrases']:,} phrases of {summary['images']:,} images",
    ]
    return ", ".join(filter(None, parts))


def tables(summary: Numbers) -> list[Table]:
    """All tables of a summary (`summarize`). Fractions are in percent; of what is empty there is no table."""
    found = [_overall(summary)]
    found += [_systems(first, summary[key]) for key, first in GROUPS.items() if key in summary]
    if "compared" in summary:
        found.append(_difference(summary))
    found.append(_categories(summary["pointing"]["by_category"]))
    found += [_levels(name, levels) for name, levels in _chosen(summary).items()]
    if "calibration" in summary:
        found.append(_calibration(summary["calibration"]))
    counts = {**summary["skipped"], **{f"prediction {k}": n for k, n in summary.get("predictions", {}).items()}}
    found.append(Table(("not scored", "phrases"), [(name, f"{count:,}") for name, count in counts.items()]))
    return [table for table in found if table.rows]


def _overall(summary: Numbers) -> Table:
    pointing, any_box, merged = summary["pointing"], summary["box_recall"], summary["box_recall_merged"]
    authors = summary["protocol"] == "authors"
    rows = [
        ("pointing accuracy", _percent(pointing["accuracy"]), _interval(pointing["ci95"])),
        ("  mean over categories", _percent(pointing["macro"]), ""),
        ("  centre of the image", _percent(pointing["center"]), "baseline, same phrases"),
        ("  random point", _percent(pointing["random"]), "baseline, same phrases"),
        (
            "attention correctness",
            _percent(summary["attention_correctness"]),
            "summed over boxes" if authors else "in their union",
        ),
        ("IoU accuracy", _percent(summary["iou_accuracy"]), "boxes around all boxes, IoU >= 0.5"),
    ]
    for against, recall in (("any true box", any_box), ("the box around all true ones", merged)):
        for rank, share in (recall or {}).items():
            if rank.startswith("R@"):
                note = f", {_interval(recall['ci95'])}" if rank == "R@1" else ""
                rows.append((f"box {rank}", _percent(share), f"{against}, IoU >= 0.5{note}"))
        if recall:
            rows.append(("  upper bound", _percent(recall["upper_bound"]), "any of our boxes"))
            rows.append(("  R@1, mean over categories", _percent(recall["macro"]), ""))
    return Table(("metric", "%", ""), [row for row in rows if row[1]])


def _systems(first: str, numbers: Mapping[str, Numbers]) -> Table:
    rows = [(NAMES.get(name, name), *_row(one)) for name, one in numbers.items()]
    kept = [0, *(i for i in range(1, len(COLUMNS) + 1) if any(row[i] for row in rows))]
    header = (first, *COLUMNS)
    return Table([header[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _row(one: Numbers) -> list[str]:
    pointing, recall, merged = (one.get(key) or {} for key in ("pointing", "box_recall", "box_recall_merged"))
    return [
        _percent(pointing.get("accuracy")),
        _range(pointing.get("ci95")),
        _percent(one.get("attention_correctness")),
        _percent(one.get("iou_accuracy")),
        _percent(recall.get("R@1")),
        _range(recall.get("ci95")),
        *(_percent(recall.get(key)) for key in ("R@5", "R@10", "upper_bound")),
        _percent(merged.get("R@1")),
    ]


def _difference(summary: Numbers) -> Table:
    other = summary["compared"]
    name = other.get("weights", "the other")
    rows = []
    for metric, row in other["difference"].items():
        group, _, rank = metric.partition(" ")
        ours, theirs = (one[group] for one in (summary, other))
        if isinstance(ours, dict):
            ours, theirs = (one[rank or "accuracy"] for one in (ours, theirs))
        numbers = (_percent(ours), _percent(theirs), f"{100 * row['value']:+.2f}", _range(row["ci95"], "+.1f"))
        rows.append((METRICS.get(metric, f"box {rank}"), *numbers))
    return Table(("paired difference", str(summary.get("weights", "this")), name, "difference", "95 %"), rows)


def _categories(by_category: Mapping[str, Numbers]) -> Table:
    rows = [
        (name, _percent(row["accuracy"]), _percent(row["center"]), f"{row['phrases']:,}")
        for name, row in by_category.items()
    ]
    return Table(("pointing by category", "%", "centre %", "phrases"), rows)


def _chosen(summary: Numbers) -> dict[str, Numbers]:
    """Where levels are chosen between: the system itself, and the paper's choice of the best one."""
    rows = {"": summary, **summary.get("ablations", {})}
    return {
        f"level chosen, {name}" if name else "level chosen": row
        for name, row in rows.items()
        if (not name or name.startswith("best level")) and row["levels"]
    }


def _levels(first: str, row: Numbers) -> Table:
    shares, categories = row["levels"], row["levels_by_category"]
    rows = [(name, _percent(share), *(f"{n[name]:,}" for n in categories.values())) for name, share in shares.items()]
    return Table((first, "%", *categories), rows)


def _calibration(calibration: Numbers) -> Table:
    rows = [(CALIBRATIONS[key], _percent(found["ece"])) for key, found in calibration.items()]
    return Table(("expected calibration error", "%"), rows)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _range(ends: Sequence[float] | None, form: str = ".1f") -> str:
    return " to ".join(f"{100 * end:{form}}" for end in ends) if ends else ""


def _interval(ends: Sequence[float] | None) -> str:
    return f"95 % interval over images {_range(ends)}" if ends else ""
