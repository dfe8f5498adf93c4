import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from groundcli.data import Box, Caption, Phrase, Sample
from groundcli.data.phrases import parse
from groundcli.evaluation import Protocol
from groundcli.evaluation.metrics import (
    attention_correctness,
    box_iou,
    counted_boxes,
    covered_area,
    draw_absent,
    enclosing_box,
    enclosing_iou,
    first_match,
    pointing_hits,
    scored_phrases,
    skip_reason,
    stacked,
)
from groundcli.heat import peak, resize
from groundcli.heat.authors_boxes import authors_boxes

A = (10, 20, 30, 40)  # from (10, 20) to (40, 60)
FAR = (100, 100, 10, 10)


@pytest.mark.parametrize(
    ("category", "boxes", "default", "authors"),
    [
        ("people", [(0, 0, 50, 50)], "", ""),
        ("people", [], "no_box", "no_box"),
        ("notvisual", [], "no_box", "notvisual"),
        ("notvisual", [(0, 0, 50, 50)], "", "notvisual"),
        ("people", [(0, 0, 10, 49)], "", "small_box"),  # 4.9 %
        ("people", [(0, 0, 10, 50)], "", ""),  # 5 %
        ("people", [(0, 0, 5, 5), (45, 45, 5, 5)], "", ""),  # small boxes, but 25 % around both
    ],
)
def test_skip_reason(category: str, boxes: list[Box], default: str, authors: str) -> None:
    phrase = Phrase("it", (0, 2), category, tuple(boxes))
    assert skip_reason(phrase, (100, 100), "default") == default
    assert skip_reason(phrase, (100, 100), "authors") == authors


def test_scored_phrases_keep_their_order() -> None:
    big, small, none = (Phrase("x", (i, i + 1), boxes=b) for i, b in enumerate([((0, 0, 9, 9),), ((0, 0, 1, 1),), ()]))
    caption = Caption("xxx", (small, none, big))
    assert scored_phrases(caption, (10, 10), "default") == (small, big)
    assert scored_phrases(caption, (10, 10), "authors") == (big,)


@pytest.mark.parametrize(
    ("protocol", "kept"), [("default", [(0, 0, 95, 99), (0, 0, 50, 50)]), ("authors", [(0, 0, 50, 50)])]
)
def test_boxes_around_nearly_everything(protocol: Protocol, kept: list[Box]) -> None:
    assert counted_boxes([(0, 0, 95, 99), (0, 0, 50, 50)], (100, 100), protocol) == kept


@pytest.mark.parametrize(
    ("point", "boxes", "tolerance", "hit"),
    [
        ((25, 40), [A], 0, True),
        ((10, 20), [A], 0, True),  # first corner
        ((40, 60), [A], 0, True),  # last corner
        ((40.5, 60), [A], 0, False),
        ((9, 20), [A], 0, False),
        ((105, 105), [A, FAR], 0, True),  # any box
        ((70, 80), [A, FAR], 0, False),  # between two boxes
        ((55, 75), [A], 15, True),
        ((56, 75), [A], 15, False),
        ((25, 40), [], 0, False),
    ],
)
def test_pointing(point: tuple[float, float], boxes: list, tolerance: float, hit: bool) -> None:
    assert pointing_hits([point], boxes, tolerance).tolist() == [hit]


def test_pointing_with_several_points() -> None:
    assert pointing_hits([(25, 40), (0, 0), (105, 105)], [A, FAR]).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("boxes", "overlap", "share"),
    [
        ([(0, 0, 2, 2)], "union", 4 / 8),
        ([(0, 0, 2, 2), (1, 0, 2, 2)], "union", 6 / 8),
        ([(0, 0, 2, 2), (1, 0, 2, 2)], "sum", 8 / 8),  # the shared column counts twice
        ([(-3, -3, 4, 4)], "union", 1 / 8),  # outside the image there is no heat
        ([(1.4, 0, 1.2, 9)], "union", 4 / 8),  # from 1.4 to 2.6: pixels 1 and 2
        ([], "union", 0),
    ],
)
def test_attention_correctness(boxes: list, overlap: str, share: float) -> None:
    heat = np.ones((2, 4), dtype=np.float32)
    assert attention_correctness(heat, boxes, (4, 2), overlap) == pytest.approx(share)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(50, 37), (500, 333), (5, 90)])
def test_attention_correctness_is_that_of_the_resized_heat_map(size: tuple[int, int]) -> None:
    draw = np.random.default_rng(0)
    heat = draw.random((9, 9)).astype(np.float32)
    full = resize(heat.astype(float), size)
    boxes = np.round(draw.random((3, 4)) * [*size, *size] * 0.7).astype(int)
    covers = np.zeros(full.shape, dtype=int)
    for x, y, width, height in boxes:
        covers[y : y + height, x : x + width] += 1
    union, total = attention_correctness(heat, boxes, size), attention_correctness(heat, boxes, size, "sum")
    assert union == pytest.approx((full * (covers > 0)).sum() / full.sum(), abs=1e-6)
    assert total == pytest.approx((full * covers).sum() / full.sum(), abs=1e-6)
    assert union < total


def test_no_heat_is_nowhere_correct() -> None:
    assert attention_correctness(np.zeros((2, 4)), [(0, 0, 4, 2)], (4, 2)) == 0


def test_box_iou() -> None:
    iou = box_iou([(0, 0, 10, 10), (5, 5, 0, 0)], [(0, 0, 10, 10), (5, 0, 10, 10), (10, 0, 5, 5), (5, 5, 0, 0)])
    np.testing.assert_allclose(iou, [[1, 50 / 150, 0, 0], [0, 0, 0, 0]])  # equal, half, touching, without area


@pytest.mark.parametrize(
    ("predicted", "true", "iou"),
    [
        ([(0, 0, 10, 10)], [(0, 0, 10, 10)], 1),
        ([(0, 0, 2, 2), (8, 8, 2, 2)], [(0, 0, 10, 10)], 1),  # what lies between two boxes counts
        ([(0, 0, 10, 5)], [(0, 0, 3, 3), (7, 7, 3, 3)], 0.5),
        ([], [(0, 0, 10, 10)], 0),
    ],
)
def test_enclosing_iou(predicted: list, true: list, iou: float) -> None:
    assert enclosing_iou(stacked([predicted]), stacked([true])) == pytest.approx([iou])


@pytest.mark.parametrize(
    ("ranked", "rank"),
    [
        ([A], 1),
        ([FAR, A], 2),
        ([FAR, FAR, A, A], 3),
        ([(10, 20, 30, 20)], 1),  # IoU 0.5 exactly
        ([(10, 20, 30, 19)], math.inf),
        ([], math.inf),
    ],
)
def test_first_match(ranked: list, rank: float) -> None:
    true = [(0, 0, 5, 5), A]
    assert first_match(stacked([ranked]), stacked([true])).tolist() == [rank]


def test_phrases_are_matched_together_as_one_by_one() -> None:
    ranked, true = [[FAR, A], [], [A]], [[A], [A, FAR], [FAR]]
    together = first_match(stacked(ranked), stacked(true)).tolist()
    assert together == [2, math.inf, math.inf]
    assert together == [float(first_match(stacked([r]), stacked([t]))[0]) for r, t in zip(ranked, true, strict=True)]
    points = [(25, 40), (25, 40), (25, 40)]
    assert pointing_hits(points, stacked(true)).tolist() == [True, True, False]
    assert pointing_hits([(np.nan, np.nan)], [A]).tolist() == [False]


@pytest.mark.parametrize(
    ("boxes", "area"),
    [
        ([(0, 0, 10, 10)], 100),
        ([(0, 0, 10, 10), (5, 5, 10, 10)], 175),  # the overlap once
        ([(0, 0, 10, 10), (2, 2, 3, 3)], 100),  # one in the other
        ([(0, 0, 10, 10), (10, 10, 5, 5)], 125),  # touching
        ([(-5, -5, 10, 10)], 25),  # only what lies in the image
        ([(200, 0, 10, 10)], 0),
        ([(0.5, 0, 1.5, 2)], 3),
        ([], 0),
    ],
)
def test_covered_area(boxes: list, area: float) -> None:
    assert covered_area(boxes, (100, 100)) == pytest.approx(area)


def test_authors_metrics(oracles: Path) -> None:
    """Hits, IoU accuracy, attention correctness and the 5 % filter of all 30 cases."""
    heat = np.load(oracles / "authors.npz")
    for case in json.loads((oracles / "authors_heatmaps.json").read_text()):
        height, width = case["hw"]
        size, cells = (width, height), heat[case["heat"]][None]
        true = [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in case["bbox"]]
        assert pointing_hits(peak(cells, size), true)[0] == case["hit"]
        boxes = counted_boxes(authors_boxes(cells, size)[0][0], size, "authors")
        assert (enclosing_iou(stacked([boxes]), stacked([true]))[0] >= 0.5) == case["iou"]
        attention = attention_correctness(cells[0], true, size, "sum")
        assert attention == pytest.approx(case["att"], abs=1e-5)
        assert (math.prod(enclosing_box(true)[2:]) / (width * height) >= 0.05) == case["kept"]


def test_no_phrases_stack_to_nothing() -> None:
    assert stacked([]).shape == (0, 1, 4)


def test_absent_phrases_share_no_content_word_with_the_captions() -> None:
    def sample(name: str, *texts: str) -> Sample:
        captions = tuple(
            replace(parse(text), phrases=tuple(replace(p, boxes=((0, 0, 9, 9),)) for p in parse(text).phrases))
            for text in texts
        )
        return Sample(name, Path(name), captions)

    samples = [
        sample("a", "[a man] with [two dogs]", "[a man] runs"),
        sample("b", "[the dog] on [a sofa]"),
        sample("c", "[women] by [a red car]", "there is a sofa"),
        sample("d", "[the] [!]"),
    ]
    drawn = [*draw_absent(samples)]
    assert drawn == [*draw_absent(samples)]
    texts = [{caption.text[slice(*caption.phrases[0].span)] for caption in captions} for captions in drawn]
    assert all(len(caption.phrases) == 1 for captions in drawn for caption in captions)
    assert texts[0] == {"a sofa", "women", "a red car"}  # three phrases with boxes; no dog, no man
    assert texts[1] <= {"a man", "women", "a red car"}
    assert len(texts[1]) == 2
    assert texts[2] <= {"a man", "two dogs", "the dog"}
    assert not texts[3] & {"the", "!"}  # which have no content word
