import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from groundcli.heat.authors_boxes import FLOOR, authors_boxes
from groundcli.heat.pixels import resize


def test_authors_boxes(oracles: Path) -> None:
    heat = np.load(oracles / "authors.npz")
    cases = json.loads((oracles / "authors_heatmaps.json").read_text())
    assert len(cases) == 30
    for case in cases:
        height, width = case["hw"]
        boxes, scores = authors_boxes(heat[case["heat"]], (width, height))
        assert [(x, y, x + w, y + h) for x, y, w, h in boxes] == [tuple(box) for box in case["boxes"]]
        np.testing.assert_allclose(scores, case["scores"], atol=1e-5)


def spots(*cells: tuple[int, int, float], side: int = 10) -> np.ndarray:
    """A heat map with single hot cells (row, column, heat)."""
    heat = np.zeros((side, side), dtype=np.float32)
    for row, column, value in cells:
        heat[row, column] = value
    return heat


def test_a_box_lies_around_its_peak() -> None:
    ((box,), (score,)) = authors_boxes(spots((2, 6, 5.0)), (200, 100))
    x, y, width, height = box
    assert x < 130 < x + width
    assert y < 25 < y + height
    assert 20 < width < 40  # a cell is 20 x 10 pixels; bilinear heat reaches into its neighbours
    assert 10 < height < 20
    assert score == pytest.approx(0.975 * 0.95)  # looked up half a pixel beside the centre


@pytest.mark.parametrize(
    ("heats", "count"),
    [
        ([1.0], 1),
        ([1.0, 0.8, 0.5, 0.4], 3),  # three boxes at most
        ([1.0, 0.31], 2),
        ([1.0, 0.29], 1),  # under 0.3 of the maximum
        ([], 0),  # no heat
    ],
)
def test_the_best_peaks_count(heats: list[float], count: int) -> None:
    places = [(1, 1), (1, 7), (7, 1), (7, 7)]
    boxes, scores = authors_boxes(spots(*((*at, h) for at, h in zip(places, heats, strict=False))), (100, 100))
    assert len(boxes) == len(scores) == count
    assert scores == sorted(scores, reverse=True)


def test_a_box_around_everything() -> None:
    heat = np.ones((4, 4), dtype=np.float32)
    heat[0, 0], heat[2, 2] = 0, 1.1
    assert authors_boxes(heat, (100, 100))[0] == [(0, 0, 99, 99)]


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan])
def test_a_flat_heat_map_has_no_boxes(value: float) -> None:
    assert authors_boxes(np.full((5, 5), value), (50, 50)) == ([], [])


def test_boxes_of_large_images_are_those_of_smaller_ones_scaled() -> None:
    heat = spots((2, 6, 1.0), (7, 2, 0.7))
    small, large = authors_boxes(heat, (1000, 600)), authors_boxes(heat, (10_000, 6_000))
    np.testing.assert_allclose(np.array(small[0]) * 10, large[0], atol=30)
    np.testing.assert_allclose(small[1], large[1], atol=0.02)


def test_images_smaller_than_the_grid() -> None:
    boxes, scores = authors_boxes(spots((2, 6, 1.0), (7, 3, 0.7)), (3, 3))
    assert len(boxes) == len(scores)


@pytest.mark.parametrize("seed", range(40))
def test_regions_are_those_of_the_whole_resized_heat_map(seed: int) -> None:
    """On noise, where regions hang together through places between cells, and on images smaller than the heat map."""
    draw = np.random.default_rng(seed)
    side = int(draw.integers(2, 12))
    heat = draw.random((side, side)).astype(np.float32)
    size = (int(draw.integers(1, 90)), int(draw.integers(1, 90)))
    full = resize((heat - heat.min()) / np.ptp(heat), size)
    for (x, y, width, height), score in zip(*authors_boxes(heat, size), strict=True):
        regions = ndimage.find_objects(ndimage.label(full > FLOOR * score)[0])
        found = [(x.start, y.start, x.stop - x.start - 1, y.stop - y.start - 1) for y, x in regions]
        assert (x, y, width, height) in found
