"""Whether scores are probabilities, and how to make them so."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize

from groundcli.errors import GroundcliError
from groundcli.evaluation.collected import Collected
from groundcli.evaluation.systems import OWN
from groundcli.heat.confidence import probability

BINS = 10
FOLDS = 5


def fit(features: np.ndarray, hits: np.ndarray) -> list[float]:
    """The calibration that makes hits likeliest, with Platt's smoothed targets (1999), which keep it finite.

    Args:
        features: (P, F), of `confidence.features`; phrases without heat are left out.
        hits: (P), 1 where the point is right, else 0.

    Returns:
        1 + F numbers, for `confidence.probability`.
    """
    some = np.isfinite(features).all(1)
    rows, right = np.column_stack([np.ones(some.sum()), features[some]]), hits[some] > 0
    targets = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))

    def loss(factors: np.ndarray) -> tuple[float, np.ndarray]:
        logits = rows @ factors
        return float((np.logaddexp(0, logits) - targets * logits).sum()), rows.T @ (1 / (1 + np.exp(-logits)) - targets)

    return [float(factor) for factor in minimize(loss, np.zeros(rows.shape[1]), jac=True).x]


def fit_calibration(collected: Collected) -> list[float]:
    """The calibration of a grounder on all phrases of an evaluation. Raises GroundcliError where none has any heat."""
    features, hits = collected.features, collected.measures()[OWN].hit
    if features is None or not np.isfinite(features).all(1).any():
        raise GroundcliError("--calibrate: no phrase has any heat; there is nothing to fit")
    return fit(features, hits)


def confidence(collected: Collected) -> np.ndarray:
    """(P) how sure the system is of each phrase: the fitted probability where it has heat maps, else its score."""
    features = collected.features
    own = collected.measures()[OWN]
    return own.score if features is None else probability(features, fit(features, own.hit))


def cross_validated(features: np.ndarray, hits: np.ndarray, images: np.ndarray) -> np.ndarray | None:
    """Each phrase's probability from a calibration that was fitted on other images; None for fewer than `FOLDS`.

    Args:
        features, hits: as in `fit`.
        images: (P) number of each phrase's image, counted from 0.
    """
    count = int(images.max()) + 1
    if count < FOLDS:
        return None
    fold = np.random.default_rng(0).permutation(count)[images] % FOLDS
    out = np.zeros(len(hits))
    for own in (fold == k for k in range(FOLDS)):
        out[own] = probability(features[own], fit(features[~own], hits[~own]))
    return out


def reliability(scores: np.ndarray, hits: np.ndarray) -> dict[str, Any]:
    """How often points are right whose scores are alike (Guo et al., ICML 2017).

    Args:
        scores: (P) from 0 to 1.
        hits: (P).

    Returns:
        {"ece": expected calibration error, the mean distance of score and accuracy over `BINS` bins of equal width,
        weighted by their phrases, "bins": a list of {"score" (mean), "accuracy", "phrases"} of those that hold any}.
    """
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    bins = [
        {"score": float(scores[own].mean()), "accuracy": float(hits[own].mean()), "phrases": int(own.sum())}
        for own in (place == k for k in range(BINS))
        if own.any()
    ]
    return {"ece": sum(b["phrases"] * abs(b["score"] - b["accuracy"]) for b in bins) / len(scores), "bins": bins}


def calibration_summary(
    scores: np.ndarray, hits: np.ndarray, images: np.ndarray, features: np.ndarray | None, own: Sequence[float] = ()
) -> dict[str, Any]:
    """Reliability of the scores as they are, after calibration on other images, and as the weights are calibrated.

    Args:
        scores, hits, images: (P); scores from 0 to 1.
        features: (P, F), where there are heat maps.
        own: the calibration that the weights carry, if any.
    """
    summary = {"score": reliability(scores, hits)}
    if features is None:
        return summary
    validated = cross_validated(features, hits, images)
    if validated is not None:
        summary["cross_validated"] = reliability(validated, hits)
    if own:
        summary["weights"] = reliability(probability(features, own), hits)
    return summary
