"""Drawings of numbers as SVG, to stand in a page: they take its colours (`--ink`, `--faint`, `--line`, `--accent`)."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

SIDE, LEFT, BELOW = 300, 44, 40  # of the square of a reliability diagram, and room for its scales
BAR, GAP, NAMES, LENGTH = 12, 14, 90, 200  # of bars: height, distance, room for names, and how long all is

Numbers = Mapping[str, Any]


def bars(by_category: Mapping[str, Numbers]) -> str:
    """Accuracy of each category as a bar, and under it a thin one for the centre of the image."""
    rows = []
    for i, (name, row) in enumerate(by_category.items()):
        top = i * (BAR + 6 + GAP)
        rows += [
            _text(NAMES - 8, top + BAR, html.escape(name), "end"),
            _rectangle(NAMES, top, LENGTH * row["accuracy"], BAR, "own"),
            _rectangle(NAMES, top + BAR + 1, LENGTH * row["center"], 5, "other"),
            _text(NAMES + LENGTH * row["accuracy"] + 6, top + BAR, f"{100 * row['accuracy']:.1f}"),
        ]
    height = len(by_category) * (BAR + 6 + GAP)
    return _svg(NAMES + LENGTH + 50, height, rows, "Pointing accuracy by category, and that of the image's centre")


def reliability(bins: Sequence[Numbers]) -> str:
    """How often points are right over their score; on the diagonal the score is a probability.

    A dot stands for the phrases of one bin; its area for how many they are.
    """
    most = max(own["phrases"] for own in bins)
    axis = [f'<path class="line" d="M{LEFT} {SIDE}L{LEFT + SIDE} 0M{LEFT} 0V{SIDE}H{LEFT + SIDE}"/>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        axis += [
            _text(LEFT - 8, SIDE * (1 - share) + 5, f"{100 * share:.0f}", "end"),
            _text(LEFT + SIDE * share, SIDE + 18, f"{100 * share:.0f}", "middle"),
        ]
    axis.append(_text(LEFT + SIDE / 2, SIDE + 36, "score, %", "middle"))
    places = [(LEFT + SIDE * own["score"], SIDE * (1 - own["accuracy"]), own) for own in bins]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
    dots = [
        f'<circle class="own" cx="{x:.1f}" cy="{y:.1f}" r="{3 + 9 * (own["phrases"] / most) ** 0.5:.1f}">'
        f"<title>score {own['score']:.2f}, right {100 * own['accuracy']:.1f} %, {own['phrases']:,} phrases</title>"
        "</circle>"
        for x, y, own in places
    ]
    rows = [*axis, f'<path class="curve" d="M{line}"/>', *dots]
    return _svg(LEFT + SIDE + 16, SIDE + BELOW, rows, "Share of right points over their score", above=16)


def _svg(width: float, height: float, rows: Sequence[str], label: str, above: float = 0) -> str:
    view = f"0 {-above:g} {width:g} {height + above:g}"
    size = f'width="{width:g}" height="{height + above:g}"'
    return f'<svg viewBox="{view}" {size} role="img" aria-label="{label}">{"".join(rows)}</svg>'


def _rectangle(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}" rx="2"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
