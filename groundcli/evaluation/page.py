"""One page about an evaluation, in one file: it needs no network and no other file."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from groundcli.data.images import decode
from groundcli.errors import UsageError
from groundcli.evaluation.summary import confidence, of_group
from groundcli.evaluation.systems import EVALUATED
from groundcli.evaluation.tables import CALIBRATIONS, calibrations, tables, title
from groundcli.files import replacing
from groundcli.output.overlays import area, color, draw_box, draw_marker, scaled
from groundcli.output.report import read_style

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
            (CALIBRATIONS[name], f"{100 * numbers['ece']:.1f}", _reliability(numbers["bins"]))
            for name, numbers in calibrations(summary).items()
        ]
        parts["cases"] = {"Surest misses": surest(rows, False), "Surest hits": surest(rows, True)}
    template = Environment(autoescape=True, trim_blocks=True).from_string(
        Path(__file__).with_suffix(".html").read_text("utf-8")
    )
    page = template.render(mark=Markup(MARK), style=Markup(read_style()), **parts)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / PAGE) as file:
        file.write(page)
    return out / PAGE


# --- Cases


def surest(rows: pd.DataFrame, right: bool) -> list[tuple[Any, str]]:
    """The cases that a system is surest of among those where it is right, or where it is wrong; one per image.

    Each is a row of the table with a `confidence`, and a picture, a JPEG as a data URL.
    """
    evaluated = of_group(rows, EVALUATED)
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


# --- Drawings


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
