import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from groundcli.data import Box
from groundcli.heat import resize
from groundcli.heat.authors_boxes import authors_boxes as of_several


def authors_boxes(heatmap: np.ndarray, size: tuple[int, int]) -> tuple[list[Box], list[float]]:
    """Of one heat map."""
    ((boxes, scores),) = of_several(heatmap[np.newaxis], size)
    return boxes, scores


def plain(heatmap: np.ndarray, size: tuple[int, int]) -> tuple[list[Box], list[float]]:
    """What `authors_boxes` is to give, the plain way: with the whole heat map at the size of the image."""
    heat = (heatmap - heatmap.min()) / np.ptp(heatmap)
    full = resize(heat, size)
    peaks = np.argwhere((heat == ndimage.maximum_filter(heat, 3, mode="constant")) & (heat > 0.3))
    places = [(int(y), int(x)) for y, x in (peaks + 0.5) * full.shape / heat.shape]
    candidates = []
    for y, x in sorted(places, key=lambda place: -full[place])[:3]:
        regions, _ = ndimage.label(full > 0.3 * full[y, x])
        if regions[y, x]:  # a tiny image may have no pixel on a peak
            rows, columns = ndimage.find_objects(regions)[regions[y, x] - 1]
            box = (columns.start, rows.start, columns.stop - columns.start - 1, rows.stop - rows.start - 1)
            candidates.append((box, float(full[y, x])))
    dropped: set[int] = set()
    for i, (second, _) in enumerate(candidates):
        for j in sorted({*range(i)} - dropped):
            of_second, of_first = covered(second, candidates[j][0]), covered(candidates[j][0], second)
            if max(of_second, of_first) > 0.6:
                dropped.add(i if of_second >= of_first else j)
    kept = [candidate for i, candidate in enumerate(candidates) if i not in dropped]
    return [box for box, _ in kept], [score for _, score in kept]


def covered(box: Box, other: Box) -> float:
    """The share of a box that another covers; none of one without an area."""
    sides = [max(0, min(box[i] + box[i + 2], other[i] + other[i + 2]) - max(box[i], other[i])) for i in (0, 1)]
    return sides[0] * sides[1] / (box[2] * box[3]) if box[2] * box[3] else 0.0


def test_authors_boxes(oracles: Path) -> None:
    heat = np.load(oracles / "authors.npz")
    cases = json.loads((oracles / "authors_heatmaps.json").read_text())
    assert len(cases) == 30
    for case in cases:
        height, width = case["hw"]
        for boxes, scores in (way(heat[case["heat"]], (width, height)) for way in (authors_boxes, plain)):
            assert [(x, y, x + w, y + h) for x, y, w, h in boxes] == [tuple(box) for box in case["boxes"]]
            np.testing.assert_allclose(scores, case["scores"], atol=1e-5)


@pytest.mark.parametrize("blur", [0, 0.7, 2])
@pytest.mark.parametrize("seed", range(40))
def test_the_plain_way_gives_the_same(seed: int, blur: float) -> None:
    """On noise, where regions hang together through places between cells, and on images smaller than the heat map."""
    draw = np.random.default_rng(seed)
    side = int(draw.integers(2, 20))
    heat = ndimage.gaussian_filter(draw.random((side, side)), blur).astype(np.float32)
    size = (int(draw.integers(1, 160)), int(draw.integers(1, 160)))
    boxes, scores = authors_boxes(heat, size)
    expected, heats = plain(heat, size)
    assert boxes == expected
    np.testing.assert_allclose(scores, heats, atol=1e-5)


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
    assert scores == pytest.approx([0.9025 * heat for heat in heats[:count]])  # half a pixel beside the centre, twice
    centres = [(row * 10 + 5, column * 10 + 5) for row, column in places[:count]]
    for (x, y, width, height), (row, column) in zip(boxes, centres, strict=True):
        assert x < column < x + width
        assert y < row < y + height


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
    heat = spots((2, 6, 1.0), (7, 3, 0.7))
    boxes, scores = authors_boxes(heat, (3, 3))
    expected, heats = plain(heat, (3, 3))
    assert boxes == expected
    assert scores == pytest.approx(heats)
