import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from groundcli.data.sample import Caption, Phrase
from groundcli.errors import UsageError
from groundcli.evaluation.page import MARK, check_report, write_page
from groundcli.evaluation.rows import Rows
from groundcli.evaluation.summary import summarize
from tests.evaluation.fixtures import LEFT, SAMPLE, collect, predicted
from tests.shapes import draw_shape

HOSTILE = "<img src=x onerror=1> & {{style}} $x$"


def page_of(out: Path, rows: Rows, levels: tuple[str, ...] = (), **run: str) -> str:
    table = rows.table(levels)
    return write_page(out, run | summarize(table, rows.skipped, rows.options), table).read_text("utf-8")


def test_the_page_holds_all_that_it_shows(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    draw_shape("red", "circle", (10, 10)).resize((100, 100)).save(photo)
    caption = Caption(HOSTILE, (Phrase(HOSTILE, (0, len(HOSTILE)), "<b>", (LEFT,)),))
    sample = replace(SAMPLE, name=HOSTILE, image=photo, captions=(caption,))
    rows = collect([predicted((10, 10), boxes=[[LEFT]])] * 6, sample)
    page = page_of(tmp_path / "out", rows, ("<early>",), dataset=HOSTILE)
    assert MARK in page
    assert page.count("data:image/jpeg;base64,") == 6  # hits; there are no misses
    assert all(place.startswith(("data:", "#")) for place in re.findall(r'<[^>]*(?:src|href)="([^"]*)"', page))
    assert "<img src=x" not in page
    assert "&lt;early&gt;" in page
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 2  # bars, and reliability; without features there is nothing to calibrate
    texts = [[text.strip() for text in ElementTree.fromstring(drawing).itertext()] for drawing in drawings]
    assert {"<b>", "100.0"} <= {*texts[0]}  # the category, and its accuracy
    assert all("score, %" in of_drawing for of_drawing in texts[1:])
    assert all("var(--ink)" in drawing and "var(--accent)" in drawing for drawing in drawings)  # light or dark
    check_report(tmp_path / "out")  # one of ours may be written anew


def test_numbers_without_points_are_a_page_too(tmp_path: Path) -> None:
    silent = replace(predicted((10, 10), (10, 10), boxes=[[LEFT], []]), points=None, scores=None)
    page = page_of(tmp_path, collect([silent]))
    assert "box R@1" in page
    assert "<svg" not in page


def test_a_page_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(UsageError, match=r"holds a report\.html that eval did not write; name another folder"):
        page_of(tmp_path, collect([predicted((10, 10), (10, 10))]))
    assert (tmp_path / "report.html").read_text() == "mine"
