import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from groundcli.evaluation.protocol import Settings

from groundcli.data.sample import Caption, Phrase
from groundcli.evaluation.page import write_page
from groundcli.evaluation.summary import summarize
from tests.evaluation.fixtures import LEFT, SAMPLE, collect, predicted
from tests.shapes import draw_shape

HOSTILE = "<img src=x onerror=1> & {{style}}"


def test_the_page_holds_all_that_it_shows(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    draw_shape("red", "circle", (10, 10)).resize((100, 100)).save(photo)
    caption = Caption(HOSTILE, (Phrase(HOSTILE, (0, len(HOSTILE)), "<b>", (LEFT,)),))
    sample = replace(SAMPLE, name=HOSTILE, image=photo, captions=(caption,))
    collected = collect(Settings(), predicted((10, 10), boxes=[[LEFT]]), sample, images=6)
    summary = {"dataset": HOSTILE} | summarize(collected, ("<early>",))
    page = write_page(tmp_path / "out", summary, collected).read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 6  # hits; there are no misses
    assert all(place.startswith("data:") for place in re.findall(r'<[^>]*(?:src|href)="([^"]*)"', page))
    assert "<img src=x" not in page
    assert "&lt;early&gt;" in page
    drawings = re.findall(r"<svg.*?</svg>", page)
    assert len(drawings) == 3  # bars, and reliability before and after calibration
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_numbers_without_points_are_a_page_too(tmp_path: Path) -> None:
    own = replace(predicted((10, 10), (10, 10), boxes=[[LEFT], []]), points=None, scores=None)
    collected = collect(Settings(), own)
    page = write_page(tmp_path, summarize(collected), collected).read_text("utf-8")
    assert "box R@1" in page
    assert "<svg" not in page
