from dataclasses import replace

import pytest
from rich.console import Console

from groundcli.evaluation.formats import as_markdown, for_terminal
from groundcli.evaluation.protocol import Settings
from groundcli.evaluation.summary import summarize
from groundcli.evaluation.tables import tables, title
from tests.evaluation.fixtures import LEFT, SAMPLE, collect, predicted

OWN = predicted((10, 10), (10, 10), boxes=[[LEFT], []], levels=[0, 1])
RUN = {"dataset": "flickr30k", "split": "val", "weights": "lite"}


def shown(summary: dict) -> str:
    console = Console(width=130)
    with console.capture() as capture:
        console.print(for_terminal(title(summary), tables(summary)))
    return capture.get()


def test_numbers_stand_beside_their_protocol() -> None:
    text = shown(RUN | summarize(collect(Settings("default"), OWN), ("early", "late")))
    assert "flickr30k val lite, protocol default, whole captions encoded, 2 phrases of 1 images" in text
    for row in ("pointing accuracy", "centre of the image", "random point", "people", "early", "whole image as a box"):
        assert row in text
    for number in ("50.00", "95 % interval over images 50.0 to 50.0", "25.50", "no_box"):
        assert number in text
    assert "summed over boxes" in shown(RUN | summarize(collect(Settings("authors"), predicted((10, 10)))))


@pytest.mark.parametrize(
    ("settings", "words"), [(Settings(tolerance=15), "tolerance 15 px"), (Settings(encode="phrase"), "encoded alone")]
)
def test_settings_are_shown(settings: Settings, words: str) -> None:
    assert words in shown(summarize(collect(settings, OWN)))
    assert words not in shown(summarize(collect(Settings(), OWN)))


def test_what_is_empty_has_no_table_and_what_is_unknown_no_row() -> None:
    text = shown(summarize(collect(Settings(), replace(OWN, boxes=None, levels=None, heat=None))))
    assert "level chosen" not in text
    assert "attention" not in text
    assert "IoU accuracy" not in text
    assert "paired difference" not in text


def test_markdown_has_as_many_cells_in_every_row_of_a_table() -> None:
    summary = RUN | {"weights": "a|b<c"} | summarize(collect(Settings(), OWN, SAMPLE), ("early", "late"))
    text = as_markdown(title(summary), tables(summary))
    assert text.startswith("**flickr30k val a\\|b&lt;c, protocol default")
    assert "| pointing accuracy | 50.00 | 95 % interval over images 50.0 to 50.0 |" in text
    blocks = text.split("\n\n")[1:]
    assert len(blocks) == len(tables(summary))
    for block in blocks:
        rows = block.strip().splitlines()
        assert set(rows[1]) <= set("|-: ")
        assert len({row.count("|") for row in rows}) == 1
