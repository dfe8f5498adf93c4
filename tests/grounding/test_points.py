import json
from pathlib import Path

import numpy as np
import pytest

from groundcli.heat.pixels import peak, resize
from tests.grounding.test_bilinear import CELLS_AND_SIZES


@CELLS_AND_SIZES
def test_peak_is_the_maximum_of_the_resized_heat_map(cells: int, size: tuple[int, int]) -> None:
    heat = np.random.default_rng(0).random((20, cells, cells)).astype(np.float32)
    full = np.stack([resize(one, size) for one in heat])
    x, y = peak(heat, size).astype(int).T
    np.testing.assert_allclose(full[range(20), y, x], full.max((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("cell", "point"),
    [
        ((0, 0), (0, 0)),  # the border repeats: the first of several equal pixels
        ((1, 1), (4, 4)),  # 3 pixels a cell: the middle one of the second
        ((2, 0), (0, 7)),  # row before column in the heat map, x before y in the point
    ],
)
def test_peak_of_a_single_hot_cell(cell: tuple[int, int], point: tuple[int, int]) -> None:
    heat = np.zeros((1, 3, 3))
    heat[0][cell] = 1
    assert peak(heat, (9, 9)).tolist() == [list(point)]


def test_no_heat_points_to_the_first_pixel() -> None:
    assert peak(np.zeros((1, 4, 4)), (30, 20)).tolist() == [[0, 0]]


def test_no_phrases() -> None:
    assert peak(np.zeros((0, 18, 18)), (500, 375)).shape == (0, 2)


def test_half_precision_loses_no_pixels() -> None:
    heat = np.zeros((1, 18, 18), dtype=np.float16)
    heat[0, 17, 17] = 1
    assert peak(heat, (8001, 6001)).dtype == np.float32
    assert peak(heat, (8001, 6001))[0, 0] > 7700


def test_huge_images_cost_nothing() -> None:
    heat = np.zeros((1, 2, 2))
    heat[0, 0, 1] = 1
    x, y = peak(heat, (100_000, 100_000))[0].tolist()
    assert (x, y) == (75_000, 0)


def test_authors_hits(oracles: Path) -> None:
    heat = np.load(oracles / "authors.npz")
    for case in json.loads((oracles / "authors_heatmaps.json").read_text()):
        height, width = case["hw"]
        ((x, y),) = peak(heat[case["heat"]][None], (width, height)).tolist()
        assert case["hit"] == any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in case["bbox"])
