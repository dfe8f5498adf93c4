"""Whether scores are probabilities, and how to make them so."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from groundcli.heat import EVIDENCE, FEATURES, probability

BINS, FOLDS = 10, 5
RIDGE = 1e-3  # keeps factors small where features say the same

Numbers = dict[str, Any]


def fit(features: np.ndarray, hits: np.ndarray, counts: np.ndarray | None = None) -> list[float]:
    """The calibration that makes hits likeliest, with Platt's smoothed targets (1999), which keep it finite.

    Of features (P, F), of `answer.PhraseHeat`, and hits (P), 1 or 0: 1 + F numbers for `heat.probability`. Phrases
    without heat are left out; `counts` (P) says how much each counts, one where it is None.
    """
    counts = np.ones(len(hits)) if counts is None else counts * len(counts) / counts.sum()
    some = np.isfinite(features).all(1)
    mean, deviation = features[some].mean(0), features[some].std(0) + 1e-9
    inputs, right = np.column_stack([np.ones(some.sum()), (features[some] - mean) / deviation]), hits[some] > 0
    weights = counts[some]
    targets = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))

    def loss(factors: np.ndarray) -> tuple[float, np.ndarray]:
        logits, ridge = inputs @ factors, RIDGE * len(inputs) * np.append(0, factors[1:])
        slope = inputs.T @ (weights * (1 / (1 + np.exp(-logits)) - targets))
        return float(weights @ (np.logaddexp(0, logits) - targets * logits) + factors @ ridge / 2), slope + ridge

    constant, *factors = minimize(loss, np.zeros(inputs.shape[1]), jac=True).x
    scaled = factors / deviation
    return [float(constant - scaled @ mean), *map(float, scaled)]


def confidence(evaluated: pd.DataFrame) -> pd.Series:
    """How sure a system is of each phrase: the fitted probability where it has heat maps, else its score."""
    features, hits = inputs(evaluated)
    return pd.Series(probability(features, fit(features, hits))) if features.size else evaluated["score"]


def inputs(evaluated: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Features (P, F), as many as the system has, and hits (P) of rows."""
    known = [name for name in (*FEATURES, *EVIDENCE) if evaluated[name].notna().any()]
    return evaluated[known].to_numpy(float), evaluated["hit"].to_numpy()


def cross_validated(
    features: np.ndarray, hits: np.ndarray, images: np.ndarray, counts: np.ndarray | None = None
) -> np.ndarray | None:
    """(P) each phrase's probability from a calibration that was fitted on other images; None for fewer than `FOLDS`.

    Features, hits and counts are those of `fit`, images (P) the number of each phrase's image, counted from 0.
    """
    count = int(images.max()) + 1
    if count < FOLDS:
        return None
    out, fold = np.zeros(len(hits)), folds(images)
    for left_out in (fold == k for k in range(FOLDS)):
        known = None if counts is None else counts[~left_out]
        out[left_out] = probability(features[left_out], fit(features[~left_out], hits[~left_out], known))
    return out


def folds(images: np.ndarray) -> np.ndarray:
    """(P) which of `FOLDS` parts each phrase is in, by its image's number (P); always the same."""
    return np.asarray(np.random.default_rng(0).permutation(int(images.max()) + 1)[images] % FOLDS)


def reliability(scores: np.ndarray, hits: np.ndarray) -> Numbers:
    """How often points, hits (P), are right whose scores, (P) from 0 to 1, are alike (Guo et al., ICML 2017).

    {"ece": expected calibration error, the mean distance of score and accuracy over `BINS` bins of equal width,
    weighted by their phrases, "bins": a list of {"score" (mean), "accuracy", "phrases"} of those that hold any}.
    """
    phrases = pd.DataFrame({"score": scores, "hit": hits}).groupby(np.minimum((scores * BINS).astype(int), BINS - 1))
    bins = phrases.agg(score=("score", "mean"), accuracy=("hit", "mean"), phrases=("hit", "size"))
    error = (bins["phrases"] * (bins["score"] - bins["accuracy"]).abs()).sum() / len(scores)
    return {"ece": float(error), "bins": bins.to_dict("records")}


def calibration_summary(evaluated: pd.DataFrame) -> Numbers:
    """Reliability of scores, from 0 to 1: as they are, and calibrated on other images of these."""
    features, hits = inputs(evaluated)
    summary = {"score": reliability(evaluated["score"].to_numpy(), hits)}
    validated = cross_validated(features, hits, evaluated["image"].cat.codes.to_numpy()) if features.size else None
    if validated is not None:
        summary["cross_validated"] = reliability(validated, hits)
    return summary
