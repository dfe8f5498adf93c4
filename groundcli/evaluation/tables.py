"""A summary as tables of text, for the terminal and for papers; and as a page, in one file that needs no other and no
network.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from groundcli.data.images import decode
from groundcli.errors import UsageError
from groundcli.evaluation.summary import confidence
from groundcli.evaluation.systems import BEST, CENTER, EVALUATED, RANDOM, SENTENCE_REGION, WHOLE_IMAGE
from groundcli.files import replacing
from groundcli.output.overlays import area, color, draw_box, draw_marker, scaled
from groundcli.output.report import read_style

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
PAGE = "report.html"
MARK = '<meta name="generator" content="groundcli eval">'  # in every page that eval writes
SIDE = 480  # longer side of a picture
EACH = 12  # cases of either kind
TRUE = (255, 255, 255)  # the true boxes' colour
# Colours that no drawing has otherwise stand for those of the page, which are light or dark.
COLORS = {"#010101": "var(--ink)", "#020202": "var(--edge)", "#030303": "var(--accent)"}
INK, EDGE, ACCENT = COLORS
DRAWN = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **{"axes.edgecolor": EDGE, "svg.fonttype": "none", "svg.hashsalt": "groundcli"},  # equal pages are equal bytes
}


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
    errors = [(name, _percent(found["ece"])) for name, found in calibrations(summary).items()]
    counts = {**summary["skipped"], **{f"prediction {k}": n for k, n in summary.get("predictions", {}).items()}}
    choosing = {"": summary}  # between levels: the system itself, and the paper's way
    if BEST in summary.get("ablations", {}):
        choosing[f", {BEST}"] = summary["ablations"][BEST]
    shown = [
        _overall(summary),
        *([_presence(summary["presence"])] if "presence" in summary else []),
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
    """The reliability of every kind of score that was measured, by what it is called."""
    found = {**summary.get("calibration", {}), "presence": summary.get("presence", {}).get("calibration")}
    return {CALIBRATIONS[name]: numbers for name, numbers in found.items() if numbers}


def _presence(numbers: Numbers) -> Table:
    rows = [
        ("area under the ROC curve", _percent(numbers["auroc"]), _interval(numbers["ci95"])),
        ("absent phrases that score above 0.5", _percent(numbers["absent_above_half"]), f"{numbers['absent']:,} asked"),
        ("present phrases that score above 0.5", _percent(numbers["present_above_half"]), ""),
    ]
    return Table(("present or absent", "%", ""), rows)


def _ranks(recall: Numbers) -> list[str]:
    """Which R@k say something."""
    return ["R@1", "R@5", "R@10"] if recall.get("most_boxes", 0) > FEW_BOXES else ["R@1", "R@5"]


def _systems(first: str, systems: Mapping[str, Numbers]) -> Table:
    rows = [(NAMES.get(name, name), *_cells(numbers)) for name, numbers in systems.items()]
    kept = [0, *(i for i in range(1, len(COLUMNS) + 1) if any(row[i] for row in rows))]
    return Table([(first, *COLUMNS)[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _cells(numbers: Numbers) -> list[str]:
    pointing, recall, merged = (numbers.get(key, {}) for key in ("pointing", "box_recall", "box_recall_merged"))
    heat = [_percent(numbers.get(key)) for key in ("attention_correctness", "iou_accuracy")]
    shares = [_percent(recall.get(rank) if rank in _ranks(recall) else None) for rank in ("R@1", "R@5", "R@10")]
    accuracy = _percent(pointing.get("accuracy")), _range(pointing.get("ci95"))
    return [*accuracy, *heat, shares[0], _range(recall.get("ci95")), *shares[1:], _percent(merged.get("R@1"))]


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
    levels, by_category = numbers["levels"], numbers["levels_by_category"]  # of a few levels and maybe many categories
    rows = [(name, *(f"{counts[level]:,}" for level in levels)) for name, counts in by_category.items()]
    return Table((first, *levels), [("%", *map(_percent, levels.values())), *rows] if levels else [])


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _range(ends: Sequence[float] | None, form: str = ".1f") -> str:
    return " to ".join(f"{100 * end:{form}}" for end in ends) if ends else ""


def _interval(ends: Sequence[float] | None) -> str:
    return f"95 % interval over images {_range(ends)}" if ends else ""


# --- The page


def check_report(out: Path) -> None:
    """Refuses a folder with a report.html that eval didn't write, and what is no folder. Raises UsageError."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--report {out}: is a file; name a folder")
    if (out / PAGE).exists() and MARK not in (out / PAGE).read_text("utf-8", errors="replace"):
        raise UsageError(f"--report {out}: holds a {PAGE} that eval did not write; name another folder")


def write_page(out: Path, summary: Mapping[str, Any], rows: pd.DataFrame) -> Path:
    """Writes `out/report.html`: tables, bars, whether the score is a probability, the worst and the best cases.

    Of a summary and the rows that it was made of, into a folder that is made where it is missing. Raises UsageError
    where there is another report.html, OSError where it can't be written.
    """
    check_report(out)
    parts: dict[str, Any] = {"title": title(summary), "tables": tables(summary), "cases": {}}
    if summary["pointing"]["accuracy"] is not None:
        if by_category := summary["pointing"]["by_category"]:
            parts["bars"] = _bars(by_category)
        parts["reliability"] = [
            (name, f"{100 * numbers['ece']:.1f}", _reliability(numbers["bins"]))
            for name, numbers in calibrations(summary).items()
        ]
        parts["cases"] = {"Surest misses": surest(rows, False), "Surest hits": surest(rows, True)}
    template = Environment(autoescape=True, trim_blocks=True).from_string(
        Path(__file__).with_name("page.html").read_text("utf-8")
    )
    page = template.render(mark=Markup(MARK), style=Markup(read_style()), **parts)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / PAGE) as file:
        file.write(page)
    return out / PAGE


# Its cases


def surest(rows: pd.DataFrame, right: bool) -> list[tuple[Any, str]]:
    """The cases that a system is surest of among those where it is right, or where it is wrong; one per image.

    Each is a row of the table with a `confidence`, and a picture, a JPEG as a data URL.
    """
    evaluated = rows[rows["group"] == EVALUATED].reset_index(drop=True)
    evaluated["confidence"] = confidence(evaluated)  # NaN, where the system doesn't say, comes last
    cases = evaluated[(evaluated["hit"] > 0) == right].sort_values("confidence", ascending=False, kind="stable")
    return [(case, _picture(case)) for case in cases.drop_duplicates("image").head(EACH).itertuples()]


def _picture(case: Any) -> str:
    photo = decode(Path(case.file))
    size = photo.size
    photo.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    scale = photo.width / size[0], photo.height / size[1]
    canvas = ImageDraw.Draw(photo)
    for box in json.loads(case.true_boxes):
        draw_box(canvas, area(box, scale), TRUE, 2)
    if not np.isnan(case.box_x):
        best = case.box_x, case.box_y, case.box_width, case.box_height
        draw_box(canvas, area(best, scale), color(0), 2)
    if not np.isnan(case.x):
        draw_marker(photo, scaled((case.x, case.y), scale, photo.size), color(0), 9)
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


# Its drawings


@rc_context(DRAWN)  # type: ignore[arg-type]
def _bars(by_category: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Accuracy of each category as a bar, and under it a thin one for the centre of the image."""
    figure, places = Figure((3, 0.4 * len(by_category))), np.arange(len(by_category))  # inches of 72 points
    axes = figure.add_axes((0, 0, 1, 1), frame_on=False, xlim=(0, 1), xticks=(), ylim=(len(places) - 0.5, -0.5))
    accuracies = [category["accuracy"] for category in by_category.values()]
    bars = axes.barh(places - 0.1, accuracies, 0.4, color=ACCENT)
    axes.bar_label(bars, [f"{100 * accuracy:.1f}" for accuracy in accuracies], padding=4)
    axes.barh(places + 0.2, [category["center"] for category in by_category.values()], 0.16, color=EDGE)
    axes.set_yticks(places, list(by_category), parse_math=False)
    axes.tick_params(length=0)
    return _svg(figure, "Pointing accuracy by category, and that of the image's centre")


@rc_context(DRAWN)  # type: ignore[arg-type]
def _reliability(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """How often points are right over their score; on the diagonal the score is a probability.

    A dot stands for the phrases of one bin; its area for how many they are.
    """
    scores, accuracies, phrases = (np.array([dot[key] for dot in bins]) for key in ("score", "accuracy", "phrases"))
    figure = Figure((3.2, 3.2))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(0, 1), xlabel="score, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot((0, 1), (0, 1), color=EDGE, linewidth=1)
    axes.plot(scores, accuracies, color=ACCENT, linewidth=2)
    axes.scatter(scores, accuracies, 20 + 250 * phrases / phrases.max(), ACCENT, clip_on=False, zorder=3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{100 * share:.0f}")
    return _svg(figure, "Share of right points over their score")


def _svg(figure: Figure, label: str) -> Markup:
    """A figure as part of the page: it takes the page's colours and font. `label` is for those who can't see it."""
    file, nothing = io.StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.1, metadata=nothing)
    text = file.getvalue()
    for stand_in, wanted in COLORS.items():
        text = text.replace(stand_in, wanted)
    return Markup(text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1))
