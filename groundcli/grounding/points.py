"""The likeliest pixel of a heat map."""

from functools import lru_cache

import numpy as np

from groundcli.grounding.bilinear import turning, weights


def peak(heatmaps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixel of the most heat once a heat map is resized to its image (paper, section 4).

    Only turning pixels are looked at (see `groundcli.grounding.bilinear`).

    Args:
        heatmaps: (P, M, M), any float type; P may be 0.
        size: (width, height) of the image.

    Returns:
        (P, 2) float32 points (x, y): whole pixels of the image, from 0 to (width - 1, height - 1); the first in
        reading order where several pixels have the most heat.
    """
    width, height = size
    cells = heatmaps.astype(np.float32)
    (x, columns), (y, rows) = _turning(width, cells.shape[-1]), _turning(height, cells.shape[-1])
    heat = rows @ cells @ columns.T  # (P, Y, X)
    best = heat.reshape(len(cells), len(y) * len(x)).argmax(1)
    return np.stack([x[best % len(x)], y[best // len(x)]], axis=-1).astype(np.float32)


@lru_cache(maxsize=256)
def _turning(pixels: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """The turning pixels of an axis, (Y), and how much each cell weighs in each, (Y, cells) float32."""
    indices = turning(pixels, cells)
    return indices, weights(pixels, cells)[indices].astype(np.float32)
