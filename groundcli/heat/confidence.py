"""How likely a point is right, read off its heat map: high heat, in one place, is right more often."""

from collections.abc import Sequence

import numpy as np

WINDOW = 8  # a window reaches side / WINDOW cells from the hottest cell, to every side


def features(heatmaps: np.ndarray) -> np.ndarray:
    """What tells right points from wrong ones best, of heat maps of one side.

    Args:
        heatmaps: (P, M, M), not negative.

    Returns:
        (P, 2) float64: logarithm of the highest heat, and the share of all heat within M // 8 cells of it; the
        logarithm is -inf, the share 0, where there is no heat.
    """
    maps = heatmaps.astype(np.float64)
    side = maps.shape[-1]
    reach = side // WINDOW
    found = np.empty((len(maps), 2))
    for row, heat in zip(found, maps, strict=True):
        y, x = divmod(int(heat.argmax()), side)
        near = heat[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        row[:] = (np.log(heat[y, x]), near.sum() / heat.sum()) if heat[y, x] > 0 else (-np.inf, 0)
    return found


def probability(features: np.ndarray, calibration: Sequence[float]) -> np.ndarray:
    """Platt's scaling (1999): the logistic function of a constant and one factor a feature.

    Args:
        features: (P, 2), of `features`.
        calibration: constant, then the factors.

    Returns:
        (P) probabilities that the point lies in a box of its phrase; 0 where there is no heat.
    """
    constant, *factors = calibration
    some = np.isfinite(features).all(1)
    out = np.zeros(len(features))
    out[some] = 1 / (1 + np.exp(-(constant + features[some] @ np.array(factors))))
    return out
