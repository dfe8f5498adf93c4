"""How far an accuracy may move with another draw of images."""

import numpy as np
from numpy.typing import ArrayLike

AT_ONCE = 1 << 20  # draws of an image that are in memory together


def interval(
    hits: ArrayLike, phrases: ArrayLike, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of an accuracy over phrases, drawing images (Efron & Tibshirani, 1993).

    Phrases of one image stand and fall together, so images are drawn with all their phrases. Hits less the hits of
    another system on the same phrases give the interval of the paired difference.

    Args:
        hits: (I) sum of hits of each image.
        phrases: (I) number of phrases of each image, each at least 1.
        confidence: share of resampled accuracies that the interval holds.
        resamples: how many times I images are drawn, with replacement.
        seed: equal seeds give equal intervals.

    Returns:
        (low, high), fractions.
    """
    hits, phrases = np.asarray(hits, dtype=float), np.asarray(phrases, dtype=float)
    draws = np.random.default_rng(seed)
    accuracies = []
    left = resamples
    while left:
        now = min(left, max(1, AT_ONCE // len(hits)))
        chosen = draws.integers(len(hits), size=(now, len(hits)))
        accuracies.append(hits[chosen].sum(1) / phrases[chosen].sum(1))
        left -= now
    low, high = np.quantile(np.concatenate(accuracies), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
