import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from groundcli.heat import mask, peak, resize, turning, weights, whole_pixels

CELLS_AND_SIZES = pytest.mark.parametrize(
    ("cells", "size"),
    [
        (18, (500, 375)),  # a photograph
        (18, (19, 17)),  # hardly larger than the grid, and smaller
        (9, (3, 2)),  # smaller than the grid
        (1, (5, 4)),  # one cell: all pixels are equal
        (7, (1, 1)),
    ],
)


def torch_has_it(heatmaps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Heat maps (P, M, M) at (width, height): (P, height, width)."""
    return F.interpolate(torch.from_numpy(heatmaps)[None], size=size[::-1], mode="bilinear")[0].numpy()


# --- At the size of the image


@CELLS_AND_SIZES
def test_heat_in_pixels(cells: int, size: tuple[int, int]) -> None:
    heat = np.random.default_rng(0).random((cells, cells)).astype(np.float32)
    (full,) = torch_has_it(heat[None], size)
    np.testing.assert_allclose(resize(heat, size), full, atol=1e-5)
    np.testing.assert_allclose(weights(size[1], cells) @ heat @ weights(size[0], cells).T, full, atol=1e-5)
    assert resize(heat, size).flags.f_contiguous


@pytest.mark.parametrize(("pixels", "cells"), [(500, 18), (19, 18), (3, 9), (5, 1), (1, 7)])
def test_between_turning_pixels_weights_are_linear(pixels: int, cells: int) -> None:
    at = turning(pixels, cells)
    assert at[0] == 0
    assert at[-1] == pixels - 1
    whole = weights(pixels, cells)
    for cell in range(cells):
        np.testing.assert_allclose(np.interp(range(pixels), at, whole[at, cell]), whole[:, cell], atol=1e-12)


# --- The point


@CELLS_AND_SIZES
def test_peak_is_the_maximum_of_the_resized_heat_map(cells: int, size: tuple[int, int]) -> None:
    heat = np.random.default_rng(0).random((20, cells, cells)).astype(np.float32)
    full = torch_has_it(heat, size)
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
    points = peak(heat, (8001, 6001))
    assert points.dtype == np.float32
    # The first pixels whose centres lie past that of the last cell, at (7778.75, 5834.3).
    assert points.tolist() == [[7779, 5834]]


def test_huge_images_cost_nothing() -> None:
    heat = np.zeros((1, 2, 2))
    heat[0, 0, 1] = 1
    assert peak(heat, (100_000, 100_000)).tolist() == [[75_000, 0]]


def test_authors_hits(oracles: Path) -> None:
    heat = np.load(oracles / "authors.npz")
    for case in json.loads((oracles / "authors_heatmaps.json").read_text()):
        height, width = case["hw"]
        ((x, y),) = peak(heat[case["heat"]][None], (width, height)).tolist()
        assert case["hit"] == any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in case["bbox"])


# --- The mask


@CELLS_AND_SIZES
def test_without_a_box_the_mask_is_the_region_with_half_of_the_most_heat(cells: int, size: tuple[int, int]) -> None:
    heat = np.random.default_rng(1).random((cells, cells)).astype(np.float32)
    (full,) = torch_has_it(heat[None], size)
    hot = mask(heat, size, None)
    assert hot.dtype == bool
    assert hot.flags.f_contiguous
    regions, _ = ndimage.label(full >= full.max() / 2)
    assert np.array_equal(hot, regions == regions[np.unravel_index(full.argmax(), full.shape)])


@CELLS_AND_SIZES
def test_the_mask_of_a_box_fills_it_from_side_to_side(cells: int, size: tuple[int, int]) -> None:
    heat = np.random.default_rng(2).random((cells, cells)).astype(np.float32)
    width, height = size
    for box in ((0, 0, width, height), (width / 3, height / 4, width / 2, height / 2), (width - 1, 0, 5, 0)):
        hot = mask(heat, size, box)
        rows, columns = np.nonzero(hot)
        left, top, right, bottom = whole_pixels(box, size).tolist()
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom)
        inside = resize(heat, size)[top:bottom, left:right]
        assert inside[~hot[top:bottom, left:right]].max(initial=0) < inside[hot[top:bottom, left:right]].min()


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((1.4, 2.6, 3.0, 4.0), (1, 3, 4, 7)),  # each side to the nearest
        ((-3, -1, 5, 3), (0, 0, 2, 2)),  # inside the image only
        ((4, 4, 0.2, 0.2), (4, 4, 5, 5)),  # one pixel at the least
        ((20, 9.9, 5, 5), (9, 7, 10, 8)),  # and never outside
    ],
)
def test_whole_pixels(box: tuple[float, ...], pixels: tuple[int, ...]) -> None:
    assert whole_pixels(box, (10, 8)).tolist() == [*pixels]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (640, 480)])
def test_mask_covers_the_image(size: tuple[int, int]) -> None:
    everywhere = mask(np.ones((9, 9), dtype=np.float32), size, None)
    assert everywhere.shape == size[::-1]
    assert everywhere.all()
    nowhere = mask(np.zeros((9, 9), dtype=np.float32), size, None)
    assert nowhere.shape == size[::-1]
    assert not nowhere.any()
