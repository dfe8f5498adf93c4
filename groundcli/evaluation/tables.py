"""A summary as tables of text, for the terminal, for papers and for the report's page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from groundcli.evaluation.systems import BEST, CENTER, RANDOM, SENTENCE_REGION, WHOLE_IMAGE

Numbers = Mapping[str, Any]
NAMES = {
    CENTER: "centre of the image",
    RANDOM: "random point",
    WHOLE_IMAGE: "whole image as a box",
    SENTENCE_REGION: "largest region of the sentence's heat",
}
CALIBRATIONS = {
    "score": "score as the model gives it",
    "cross_validated": "calibrated on other images (5 folds)",
    "presence": "score, present and absent phrases together",
}
METRICS = {
    "pointing": "pointing accuracy",
    "attention_correctness": "attention correctness",
    "iou_accuracy": "IoU accuracy",
}
GROUPS = {"baselines": "baseline, same phrases", "box_methods": "boxes by", "ablations": "ablation"}
AGAINST = {"box_recall": "any true box", "box_recall_merged": "the box around all true ones"}
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
    categories = [
        (name, _percent(numbers["accuracy"]), _percent(numbers["center"]), f"{numbers['phrases']:,}")
        for name, numbers in summary["pointing"]["by_category"].items()
    ]
    errors = [(CALIBRATIONS[name], _percent(found["ece"])) for name, found in calibrations(summary).items()]
    counts = {**summary["skipped"], **{f"prediction {k}": n for k, n in summary.get("predictions", {}).items()}}
    choosing = {"": summary}  # between levels: the system itself, and the paper's way
    if BEST in summary.get("ablations", {}):
        choosing[f", {BEST}"] = summary["ablations"][BEST]
    shown = [
        _overall(summary),
        _presence(summary.get("presence", {})),
        *(_systems(first, summary[group]) for group, first in GROUPS.items() if group in summary),
        *([_difference(summary, summary["compared"])] if "compared" in summary else []),
        Table(("pointing by category", "%", "centre %", "phrases"), categories),
        *(_levels(f"level chosen{whose}", numbers) for whose, numbers in choosing.items()),
        Table(("expected calibration error", "%"), errors),
        Table(("not scored", "phrases"), [(reason, f"{count:,}") for reason, count in counts.items()]),
    ]
    return [table for table in shown if table.rows]


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
    overlaps = "summed over boxes" if authors else "in their union"
    rows = [
        ("pointing accuracy", _percent(pointing["accuracy"]), _interval(pointing["ci95"])),
        ("  mean over categories", _percent(pointing["macro"]), ""),
        ("  centre of the image", _percent(pointing["center"]), "baseline, same phrases"),
        ("  random point", _percent(pointing["random"]), "baseline, same phrases"),
        ("attention correctness", _percent(summary["attention_correctness"]), overlaps),
        ("IoU accuracy", _percent(summary["iou_accuracy"]), "boxes around all boxes, IoU >= 0.5"),
    ]
    for group, against in AGAINST.items():
        if recall := summary[group]:
            for rank in _ranks(recall):
                interval = f", {_interval(recall['ci95'])}" if rank == "R@1" else ""
                rows.append((f"box {rank}", _percent(recall[rank]), f"{against}, IoU >= 0.5{interval}"))
            rows.append(("  R@1, mean over categories", _percent(recall["macro"]), ""))
    for name, value in summary.get("average_precision", {}).items():
        rows.append((f"box {name}, pycocotools", _percent(value), "names in the image and as many others"))
    return Table(("metric", "%", ""), [row for row in rows if row[1]])


def calibrations(summary: Numbers) -> dict[str, Numbers]:
    """The reliability of every kind of score that was measured, by the keys of `CALIBRATIONS`."""
    presence = summary.get("presence", {}).get("calibration")
    return {**summary.get("calibration", {}), **({"presence": presence} if presence else {})}


def _presence(numbers: Numbers) -> Table:
    if not numbers:
        return Table((), [])
    rows = [
        ("area under the ROC curve", _percent(numbers["auroc"]), _interval(numbers["ci95"])),
        ("absent phrases that score above 0.5", _percent(numbers["absent_above_half"]), f"{numbers['absent']:,} asked"),
        ("present phrases that score above 0.5", _percent(numbers["present_above_half"]), ""),
    ]
    return Table(("present or absent", "%", ""), rows)


def _ranks(recall: Numbers) -> list[str]:
    """Which R@k say something."""
    return ["R@1", "R@5", "R@10"] if recall["most_boxes"] > FEW_BOXES else ["R@1", "R@5"]


def _systems(first: str, systems: Mapping[str, Numbers]) -> Table:
    rows = [(NAMES.get(name, name), *_cells(numbers)) for name, numbers in systems.items()]
    kept = [0, *(i for i in range(1, len(COLUMNS) + 1) if any(row[i] for row in rows))]
    return Table([(first, *COLUMNS)[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _cells(numbers: Numbers) -> list[str]:
    pointing, recall, merged = (numbers.get(key, {}) for key in ("pointing", "box_recall", "box_recall_merged"))
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


def _difference(ours: Numbers, theirs: Numbers) -> Table:
    rows = []
    for metric, difference in theirs["difference"].items():
        group, _, rank = metric.partition(" ")
        both = [numbers[group] for numbers in (ours, theirs)]
        if rank and not any(rank in _ranks(recall) for recall in both):
            continue
        values = [numbers[rank or "accuracy"] if isinstance(numbers, dict) else numbers for numbers in both]
        cells = *map(_percent, values), f"{100 * difference['value']:+.2f}", _range(difference["ci95"], "+.1f")
        rows.append((METRICS.get(metric, f"box {rank}"), *cells))
    names = ours.get("weights", "this"), theirs.get("weights", "the other")
    return Table(("paired difference", *names, "difference", "95 %"), rows)


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
