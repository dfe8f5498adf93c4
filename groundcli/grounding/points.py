"""The likeliest pixel of a heat map, and heat maps at the size of their image."""

import torch
from torch import Tensor


def resize(heatmaps: Tensor, size: tuple[int, int]) -> Tensor:
    """Heat maps in pixels of their image: bilinear, half-pixel centres, borders repeated (OpenCV's INTER_LINEAR).

    Args:
        heatmaps: (P, M, M), any float type; P may be 0.
        size: (width, height) of the image.

    Returns:
        (P, height, width) float32.
    """
    width, height = size
    cells = heatmaps.float()
    return _weights(height, cells) @ cells @ _weights(width, cells).T


def peak(heatmaps: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixel of the most heat after `resize`, the first in reading order where several have it (paper, section 4).

    Between two neighbouring cells heat is linear along every row and column, so the maximum lies at the first or
    last pixel between them: at most 2 (M + 1) rows and columns are looked at, however large the image.

    Args:
        heatmaps: (P, M, M), any float type; P may be 0.
        size: (width, height) of the image.

    Returns:
        (P, 2) float32 points (x, y): whole pixels of the image, from 0 to (width - 1, height - 1).
    """
    width, height = size
    cells = heatmaps.float()
    rows, columns = _weights(height, cells), _weights(width, cells)
    y, x = _turning_pixels(height, cells), _turning_pixels(width, cells)
    best = (rows[y] @ cells @ columns[x].T).flatten(1).argmax(1)  # (P)
    return torch.stack([x[best % len(x)], y[best // len(x)]], dim=-1).float()


def bilinear(pixels: int, cells: int) -> Tensor:
    """How much each of `cells` weighs in each pixel of one axis, as `resize` has it: (pixels, cells) float64.

    Rows sum to 1.
    """
    distance = (_cell_positions(pixels, cells).unsqueeze(1) - torch.arange(cells)).abs()
    return (1 - distance).clamp_min(0)


def _weights(pixels: int, heatmaps: Tensor) -> Tensor:
    return bilinear(pixels, heatmaps.shape[-1]).to(heatmaps)


def _cell_positions(pixels: int, cells: int) -> Tensor:
    """Where each pixel's centre lies among the centres of the cells, from 0 to cells - 1: (pixels) float64."""
    centres = torch.arange(pixels, dtype=torch.float64) + 0.5
    return (centres * (cells / pixels) - 0.5).clamp(0, cells - 1)


def _turning_pixels(pixels: int, heatmaps: Tensor) -> Tensor:
    """Indices of the first and last pixel between each two neighbouring cells of one axis."""
    interval = _cell_positions(pixels, heatmaps.shape[-1]).floor()
    change = interval[1:] != interval[:-1]
    edge = change.new_ones(1)
    turning = (torch.cat([edge, change]) | torch.cat([change, edge])).nonzero().squeeze(1)
    return turning.to(heatmaps.device)
