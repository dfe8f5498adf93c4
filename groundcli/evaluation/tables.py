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
COLUMNS = ("pointing", "(95 %)", "attention", "IoU", "R@1", "(95 %)", "R@5", "R@10", "merged R@1")
FEW_BOXES = 5  # up to so many per phrase, R@10 says what R@5 says, and isn't shown


class Table(NamedTuple):
    """A table of text: the names of its columns, rows of as many cells, the first of each a name."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def is_right(self, column: int) -> bool:
        """Whether a column is of numbers, which stand to the right."""
        return column > 0 and all(row[column][0] in "0123456789+-" for row in self.rows if row[column])


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
    counts = {**summary["skipped"], **{f"prediction {k}": n for k, n in summary.get("predictions", {}).items()}}
    by_category = summary["pointing"]["by_category"]
    made = [
        _overall(summary),
        *(_systems(first, summary[key]) for key, first in GROUPS.items() if key in summary),
        *([_difference(summary)] if "compared" in summary else []),
        Table(
            ("pointing by category", "%", "centre %", "phrases"),
            [
                (name, _percent(row["accuracy"]), _percent(row["center"]), f"{row['phrases']:,}")
                for name, row in by_category.items()
            ],
        ),
        *(_levels(name, numbers) for name, numbers in _choosing(summary).items()),
        Table(
            ("expected calibration error", "%"),
            [(CALIBRATIONS[key], _percent(value["ece"])) for key, value in summary.get("calibration", {}).items()],
        ),
        Table(("not scored", "phrases"), [(name, f"{count:,}") for name, count in counts.items()]),
    ]
    return [table for table in made if table.rows]


def as_markdown(summary: Numbers) -> str:
    """All tables as Markdown's (GitHub's)."""
    parts = [f"**{_escaped(title(summary))}**\n"]
    for table in tables(summary):
        rules = ["---:" if table.is_right(i) else "---" for i in range(len(table.header))]
        rows = [table.header, rules, *table.rows]
        parts.append("".join(f"| {' | '.join(map(_escaped, row))} |\n" for row in rows))
    return "\n".join(parts)


def _escaped(text: str) -> str:
    return text.strip().replace("|", "\\|").replace("<", "&lt;")


def _overall(summary: Numbers) -> Table:
    pointing, authors = summary["pointing"], summary["protocol"] == "authors"
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
    for key, against in (("box_recall", "any true box"), ("box_recall_merged", "the box around all true ones")):
        if recall := summary[key]:
            note = f"{against}, IoU >= 0.5"
            rows.append(("box R@1", _percent(recall["R@1"]), f"{note}, {_interval(recall['ci95'])}"))
            rows += [(f"box {rank}", _percent(recall[rank]), note) for rank in _ranks(recall)[1:]]
            rows.append(("  R@1, mean over categories", _percent(recall["macro"]), ""))
    return Table(("metric", "%", ""), [row for row in rows if row[1]])


def _ranks(recall: Numbers) -> list[str]:
    """Which R@k say something."""
    return ["R@1", "R@5", *(["R@10"] if recall["most_boxes"] > FEW_BOXES else [])]


def _systems(first: str, numbers: Mapping[str, Numbers]) -> Table:
    rows = [(NAMES.get(name, name), *_cells(of_system)) for name, of_system in numbers.items()]
    kept = [0, *(i for i in range(1, len(COLUMNS) + 1) if any(row[i] for row in rows))]
    header = (first, *COLUMNS)
    return Table([header[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _cells(numbers: Numbers) -> list[str]:
    pointing, recall, merged = (numbers.get(key) or {} for key in ("pointing", "box_recall", "box_recall_merged"))
    shown = _ranks(recall) if recall else []
    return [
        _percent(pointing.get("accuracy")),
        _range(pointing.get("ci95")),
        _percent(numbers.get("attention_correctness")),
        _percent(numbers.get("iou_accuracy")),
        _percent(recall.get("R@1")),
        _range(recall.get("ci95")),
        *(_percent(recall[rank]) if rank in shown else "" for rank in ("R@5", "R@10")),
        _percent(merged.get("R@1")),
    ]


def _difference(summary: Numbers) -> Table:
    other = summary["compared"]
    rows = []
    for metric, row in other["difference"].items():
        group, _, rank = metric.partition(" ")
        ours, theirs = (numbers[group] for numbers in (summary, other))
        if isinstance(ours, dict):
            if rank and rank not in _ranks(ours) + _ranks(theirs):
                continue
            ours, theirs = (numbers[rank or "accuracy"] for numbers in (ours, theirs))
        cells = (_percent(ours), _percent(theirs), f"{100 * row['value']:+.2f}", _range(row["ci95"], "+.1f"))
        rows.append((METRICS.get(metric, f"box {rank}"), *cells))
    names = str(summary.get("weights", "this")), other.get("weights", "the other")
    return Table(("paired difference", *names, "difference", "95 %"), rows)


def _choosing(summary: Numbers) -> dict[str, Numbers]:
    """Where levels are chosen between: the system itself, and the paper's choice of the best one."""
    systems = {"": summary, **summary.get("ablations", {})}
    return {
        f"level chosen, {name}" if name else "level chosen": numbers
        for name, numbers in systems.items()
        if (not name or name.startswith("best level")) and numbers["levels"]
    }


def _levels(first: str, numbers: Numbers) -> Table:
    by_category = numbers["levels_by_category"]
    rows = [
        (name, _percent(share), *(f"{counts[name]:,}" for counts in by_category.values()))
        for name, share in numbers["levels"].items()
    ]
    return Table((first, "%", *by_category), rows)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _range(ends: Sequence[float] | None, form: str = ".1f") -> str:
    return " to ".join(f"{100 * end:{form}}" for end in ends) if ends else ""


def _interval(ends: Sequence[float] | None) -> str:
    return f"95 % interval over images {_range(ends)}" if ends else ""
