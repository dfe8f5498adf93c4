"""One page about an evaluation, in one file: it needs no network and no other file."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundcli.errors import GroundcliError, UsageError
from groundcli.evaluation.calibration import confidence
from groundcli.evaluation.charts import bars, reliability
from groundcli.evaluation.collected import Collected
from groundcli.evaluation.formats import is_right
from groundcli.evaluation.gallery import Drawn, surest
from groundcli.evaluation.tables import CALIBRATIONS, Table, tables, title
from groundcli.files import replacing
from groundcli.output.report import fill, read_style

PLACE = Path(__file__).parent
MARK = '<meta name="generator" content="groundcli eval">'  # in every page that eval writes


def write_page(out: Path, summary: dict[str, Any], collected: Collected) -> Path:
    """Writes `out/report.html`: tables, bars, whether the score is a probability, the worst and the best cases.

    Args:
        out: a folder, made where it is missing.
        summary: of `summarize`.
        collected: what it was made of.

    Returns:
        The page.

    Raises:
        GroundcliError: the folder can't be written to.
    """
    path = out / "report.html"
    if path.exists() and MARK not in path.read_text("utf-8", errors="replace"):
        raise UsageError(f"--report {out}: holds a report.html that eval did not write; name another folder")
    parts = {
        "title": html.escape(title(summary)),
        "style": read_style() + (PLACE / "page.css").read_text("utf-8"),
        "body": "\n".join(_sections(summary, collected)),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(fill((PLACE / "page.html").read_text("utf-8"), parts))
    except OSError as error:
        raise GroundcliError(f"--report {out}: can't be written ({error.strerror})") from None
    return path


def _sections(summary: dict[str, Any], collected: Collected) -> list[str]:
    sections = ["<h2>Numbers</h2>", *map(_table, tables(summary))]
    if summary["pointing"]["accuracy"] is None:
        return sections
    if by_category := summary["pointing"]["by_category"]:
        note = "Pointing accuracy in percent; the thin bar is the centre of the image."
        sections += ["<h2>By category</h2>", f'<p class="note">{note}</p><figure>{bars(by_category)}</figure>']
    calibration = summary.get("calibration", {})
    if calibration:
        note = (
            "Points that are right, in percent, over the score that they were given. On the diagonal, the score is the "
            "probability that the point is right. A dot's area says how many phrases it stands for."
        )
        figures = "".join(
            f"<figure><figcaption>{CALIBRATIONS[name]}: expected calibration error {100 * found['ece']:.1f} %"
            f"</figcaption>{reliability(found['bins'])}</figure>"
            for name, found in calibration.items()
        )
        sections += [
            "<h2>Is the score a probability?</h2>",
            f'<p class="note">{note}</p><div class="charts">{figures}</div>',
        ]
    sure = confidence(collected)
    note = "White: the true boxes. Orange: the point and the best box."
    sections += [f'<h2>Surest misses</h2><p class="note">{note}</p>', _gallery(surest(collected, sure, False))]
    return [*sections, "<h2>Surest hits</h2>", _gallery(surest(collected, sure, True))]


def _table(table: Table) -> str:
    right = [' class="number"' if is_right(table, i) else "" for i in range(len(table.header))]
    head = "".join(f"<th{kind}>{html.escape(name)}</th>" for kind, name in zip(right, table.header, strict=True))
    rows = "".join(f"<tr>{''.join(map(_cell, right, row))}</tr>" for row in table.rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _cell(kind: str, text: str) -> str:
    kind = ' class="inset"' if text.startswith("  ") else kind
    return f"<td{kind}>{html.escape(text.strip())}</td>"


def _gallery(cases: Sequence[Drawn]) -> str:
    return f'<ul class="images">{"".join(map(_card, cases))}</ul>'


def _card(drawn: Drawn) -> str:
    case = drawn.case
    start, end = case.span
    before, phrase, after = map(html.escape, (case.caption[:start], case.caption[start:end], case.caption[end:]))
    score = "" if np.isnan(drawn.confidence) else f", probability {drawn.confidence:.2f}"
    return (
        f'<li class="card"><img src="{drawn.picture}" alt="{phrase}" loading="lazy"><div class="text">'
        f'<h3 class="name">{html.escape(case.name)}{score}</h3>'
        f'<p class="caption">{before}<mark>{phrase}</mark>{after}</p></div></li>'
    )
