import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from groundcli.cli.evaluate import for_terminal
from groundcli.data import Caption, Phrase
from groundcli.errors import UsageError
from groundcli.evaluation.rows import Rows
from groundcli.evaluation.summary import summarize
from groundcli.evaluation.tables import MARK, as_markdown, check_report, tables, title, write_page
from tests.evaluation.fixtures import LEFT, SAMPLE, collect, predicted, summary_of
from tests.shapes import draw_shape

HOSTILE = "<img src=x onerror=1> & {{style}} $x$"
SAID = predicted((10, 10), (10, 10), boxes=[[LEFT], []], levels=[0, 1])
RUN = {"dataset": "flickr30k", "split": "val", "weights": "lite"}


def shown(summary: dict) -> str:
    console = Console(width=130)
    with console.capture() as capture:
        console.print(for_terminal(title(summary), tables(summary)))
    return capture.get()


def test_numbers_stand_beside_their_protocol() -> None:
    text = shown(RUN | summary_of(SAID, levels=("early", "late")))
    assert "flickr30k val lite, protocol default, whole captions encoded, 2 phrases of 1 images" in text
    for row in ("pointing accuracy", "centre of the image", "random point", "people", "early", "whole image as a box"):
        assert row in text
    for number in ("50.00", "95 % interval over images 50.0 to 50.0", "25.50", "no_box"):
        assert number in text
    assert "summed over boxes" in shown(RUN | summary_of(predicted((10, 10)), protocol="authors"))


@pytest.mark.parametrize(
    ("told", "words"), [({"tolerance": 15}, "tolerance 15 px"), ({"encode": "phrase"}, "encoded alone")]
)
def test_options_are_shown(told: dict[str, Any], words: str) -> None:
    assert words in shown(summary_of(SAID, **told))
    assert words not in shown(summary_of(SAID))


def test_many_categories_are_rows() -> None:
    names = [f"category {i}" for i in range(40)]
    table = {"levels": {"early": 0.25, "late": 0.75}, "levels_by_category": {n: {"early": 1, "late": 3} for n in names}}
    levels = next(t for t in tables(summary_of(SAID, levels=("early", "late")) | table) if "level" in t.header[0])
    assert levels.header[1:] == ("early", "late")
    assert levels.rows[:2] == [("%", "25.00", "75.00"), ("category 0", "1", "3")]
    assert len(levels.rows) == 41


def test_what_is_empty_has_no_table_and_what_is_unknown_no_row() -> None:
    text = shown(summary_of(replace(SAID, boxes=None, levels=None, heat=None)))
    assert "level chosen" not in text
    assert "attention" not in text
    assert "IoU accuracy" not in text
    assert "paired difference" not in text


def test_markdown_has_as_many_cells_in_every_row_of_a_table() -> None:
    summary = RUN | {"weights": "a|b<c"} | summary_of(SAID, levels=("early", "late"))
    text = as_markdown(summary)
    assert text.startswith("**flickr30k val a\\|b&lt;c, protocol default")
    assert "| pointing accuracy | 50.00 | 95 % interval over images 50.0 to 50.0 |" in text
    blocks = text.split("\n\n")[1:]
    assert len(blocks) == len(tables(summary))
    for block in blocks:
        rows = block.strip().splitlines()
        assert set(rows[1]) <= set("|-: ")
        assert len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize(("boxes", "columns"), [(5, ["R@1", "R@5"]), (6, ["R@1", "R@5", "R@10"])])
def test_ten_boxes_are_spoken_of_where_there_are_more_than_five(boxes: int, columns: list[str]) -> None:
    summary = summary_of(replace(SAID, boxes=[[LEFT] * boxes, []]), compared=[SAID])
    overall, _, difference, *_ = tables(summary)
    assert [row[0] for row in overall.rows if row[0].startswith("box R@")] == [f"box {rank}" for rank in columns] * 2
    assert [row[0] for row in difference.rows if row[0].startswith("box")] == [f"box {rank}" for rank in columns]


# --- The page


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
