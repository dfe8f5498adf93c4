import numpy as np
import pytest
import torch
import torch.nn.functional as F

from groundcli.heat.pixels import resize, turning, weights

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


@CELLS_AND_SIZES
def test_heat_in_pixels(cells: int, size: tuple[int, int]) -> None:
    heat = np.random.default_rng(0).random((cells, cells)).astype(np.float32)
    full = F.interpolate(torch.from_numpy(heat)[None, None], size=size[::-1], mode="bilinear")[0, 0].numpy()
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
