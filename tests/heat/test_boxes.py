import math

import numpy as np
import pytest
from scipy import ndimage

from groundcli.heat.boxes import boxes_at, extent_boxes, sides_boxes


def spot(row: int, column: int, side: int = 10) -> np.ndarray:
    heat = np.zeros((side, side), dtype=np.float32)
    heat[row, column] = 5
    return heat


def test_a_side_lies_where_the_heat_falls_below_its_share() -> None:
    heat = np.zeros((5, 5))
    heat[2] = [0.2, 0.6, 1, 0.5, 0]
    heat[:, 2] = [0, 0.5, 1, 0.8, 0.4]
    (((x, y, width, height),),) = boxes_at(heat[None], (50, 500), np.array([[0.4, 0.75, 0.6]]))
    assert x == pytest.approx(10)  # halfway between the centres of the first two cells, at 5 and 15
    assert x + width == pytest.approx(37)  # a fifth of the way from 35 on
    assert y == pytest.approx(200)  # halfway from the peak's 250 to 150
    assert y + height == pytest.approx(400)  # halfway from 350 to 450


def test_a_side_stays_at_the_border_where_heat_does_not_fall() -> None:
    heat = np.array([[[1, 1], [1, 0.9]]])
    assert boxes_at(heat, (30, 20), np.array([[0.5, 0.5, 0.5]])).tolist() == [[[0, 0, 30, 20]]]


def plain(heat: np.ndarray, size: tuple[int, int], shares: np.ndarray) -> list[list[float]]:
    """What `boxes_at` is to give of one heat map, the plain way: cell by cell."""

    def reach(cells: list[float], share: float) -> float:
        lowest = cells[0]
        for i, value in enumerate(cells):
            if value < share:
                return i - 1 + (lowest - share) / (lowest - value)
            lowest = min(lowest, value)
        return len(cells) - 0.5

    def sides(cells: np.ndarray, peak: int, before: float, after: float) -> tuple[float, float]:
        values = cells.tolist()
        return peak + 0.5 - reach(values[peak::-1], before), peak + 0.5 + reach(values[peak:], after)

    def between(start: float, end: float) -> slice:
        return slice(math.ceil(start - 0.5), math.floor(end + 0.5))

    heat = heat / heat.max()
    row, column = divmod(int(heat.argmax()), len(heat))
    to_x, to_y = size[0] / len(heat), size[1] / len(heat)
    boxes = []
    for across, up, down in shares:
        left, right = sides(heat.max(0), column, across, across)
        above, below = sides(heat[:, between(left, right)].max(1), row, up, down)
        left, right = sides(heat[between(above, below)].max(0), column, across, across)
        boxes.append([left * to_x, above * to_y, (right - left) * to_x, (below - above) * to_y])
    return boxes


@pytest.mark.parametrize("blur", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("side", [2, 9, 28])
def test_all_maps_at_once_are_as_each_by_itself(side: int, blur: float) -> None:
    rng = np.random.default_rng(side)
    heat = ndimage.gaussian_filter(rng.random((30, side, side)), (0, blur, blur)).astype(np.float32)
    heat[::3] = np.maximum(heat[::3] - heat[::3].mean(), 0)  # some of it is zero
    heat[7] = 1  # flat, among others
    shares = rng.uniform(0.05, 0.95, (6, 3))
    found = boxes_at(heat, (500, 375), shares)
    for boxes, one in zip(found, heat, strict=True):
        if one.max() > one.min():
            np.testing.assert_allclose(boxes, plain(one.astype(float), (500, 375), shares), atol=1e-9)
        else:
            assert np.isnan(boxes).all()


def test_no_maps_have_no_boxes() -> None:
    assert sides_boxes(np.zeros((0, 28, 28), np.float32), (500, 375)) == []


def test_the_first_fall_counts() -> None:
    heat = spot(5, 2)
    heat[5, 7] = 4.9  # another thing
    ((((x, _, width, _), *_), _),) = sides_boxes(heat[None], (100, 100))
    assert 20 < x + width < 40  # between the peak's centre at 25 and the next thing's cell


@pytest.mark.parametrize(("row", "column"), [(0, 0), (9, 9), (5, 3), (0, 9)])
@pytest.mark.parametrize("size", [(1, 1), (500, 375), (4000, 2), (3, 9000)])
def test_boxes_lie_in_the_image_around_the_peak(row: int, column: int, size: tuple[int, int]) -> None:
    ((boxes, scores),) = sides_boxes(spot(row, column)[None], size)
    assert len(boxes) == len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] <= scores[0] <= 1
    at = ((column + 0.5) / 10 * size[0], (row + 0.5) / 10 * size[1])
    for x, y, width, height in boxes:
        assert width > 0 < height
        assert 0 <= x < at[0] < x + width <= size[0] * (1 + 1e-12)
        assert 0 <= y < at[1] < y + height <= size[1] * (1 + 1e-12)


@pytest.mark.parametrize("side", [2, 7, 19, 28])
def test_heat_of_any_shape(side: int) -> None:
    rng = np.random.default_rng(side)
    heats = rng.random((50, side, side))
    for heat, (boxes, _) in zip(heats, sides_boxes(heats, (640, 480)), strict=True):
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        for x, y, width, height in boxes:
            assert 0 <= x < (column + 0.5) / side * 640 < x + width <= 640 + 1e-6
            assert 0 <= y < (row + 0.5) / side * 480 < y + height <= 480 + 1e-6


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan])
@pytest.mark.parametrize("side", [1, 5])
def test_a_flat_heat_map_has_no_boxes(value: float, side: int) -> None:
    assert sides_boxes(np.full((1, side, side), value), (50, 50)) == [([], [])]


def test_boxes_of_an_extent_are_nested_around_the_point() -> None:
    """A thing of three certain columns, and of less certain ones to their right."""
    extent = np.zeros((8, 8), np.float32)
    extent[2:5, 1:4], extent[2:5, 4], extent[2:5, 5], extent[3, 2] = 0.95, 0.6, 0.2, 1
    ((boxes, scores),) = extent_boxes(extent[None], (80, 80))
    assert len(boxes) == len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    first, wider, narrower, widest, narrowest = (box[2] for box in boxes)
    assert narrowest < narrower < first < wider < widest
    for x, y, width, height in boxes:
        assert x <= 25 <= x + width
        assert y <= 35 <= y + height
