"""Heat maps at the size of their image: bilinear, half-pixel centres, borders repeated (as OpenCV has it).

Between the centres of two neighbouring cells heat is linear along every row and column. So whatever is sought among
pixels is found at the first and last pixel between each two, the turning pixels, however large the image.
"""

import numpy as np


def resize(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A heat map (M, M) float in pixels of an image of (width, height): (height, width), in Fortran order."""
    width, height = size
    return _stretched(_stretched(heatmap, height).T, width).T


def weights(pixels: int, cells: int) -> np.ndarray:
    """How much each cell weighs in each pixel of one axis: (pixels, cells) float64; rows sum to 1."""
    positions = _positions(pixels, cells).clip(0, cells - 1)
    return np.asarray((1 - abs(positions[:, None] - np.arange(cells))).clip(0))


def turning(pixels: int, cells: int) -> np.ndarray:
    """Indices of the first and last pixel between each two cells of one axis, before the first and after the last."""
    between = np.floor(_positions(pixels, cells))
    change = between[1:] != between[:-1]
    return np.nonzero(np.append(True, change) | np.append(change, True))[0]


def _stretched(cells: np.ndarray, pixels: int) -> np.ndarray:
    """Rows of cells (M, K) as rows of pixels (pixels, K)."""
    positions = _positions(pixels, len(cells)).clip(0, len(cells) - 1)
    before = positions.astype(int)
    out = np.diff(cells, axis=0, append=cells[-1:]).take(before, axis=0)
    out *= (positions - before)[:, None].astype(cells.dtype)
    out += cells.take(before, axis=0)
    return out


def _positions(pixels: int, cells: int) -> np.ndarray:
    """Where each pixel's centre lies among the centres of the cells; below 0 before the first one."""
    return (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5
