"""All numbers of an evaluation, ready for JSON: every one is a mean over groups of the table's rows (see `rows`)."""

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import minimize
from scipy.sparse import csr_array

from groundcli.data import Box
from groundcli.errors import GroundcliError
from groundcli.evaluation import EvaluateOptions
from groundcli.evaluation.metrics import IOU
from groundcli.evaluation.systems import ABLATIONS, ABSENT, BASELINES, BOX_METHODS, CENTER, COMPARED, EVALUATED, RANDOM
from groundcli.heat import EVIDENCE, FEATURES, probability

RANKS = (1, 5, 10)
RECALLS = {"box_recall": "any_rank", "box_recall_merged": "merged_rank"}
METRICS = ["pointing", "attention_correctness", "iou_accuracy", *(f"{name} R@{k}" for name in RECALLS for k in RANKS)]
RESAMPLES, AT_ONCE = 2000, 1 << 18  # draws of images; numbers that are worked on together, as caches hold them
BINS, FOLDS = 10, 5
RIDGE = 1e-3  # keeps factors small where features say the same

Numbers = dict[str, Any]


def summarize(rows: pd.DataFrame, skipped: Counter[str], options: EvaluateOptions) -> Numbers:
    """All numbers; accuracies are fractions from 0 to 1, intervals over images, None is what couldn't be measured.

    Args:
        rows: the table.
        skipped: phrases that weren't scored, by reason.
        options: what the numbers depend on.

    Returns:
        "protocol", "encode", "images" (with scored phrases), "phrases" (scored), "skipped": {reason: phrases};
        "pointing": {"accuracy", "ci95", "macro", "center", "random", "by_category": {name: {"accuracy", "center",
        "phrases"}}}, and "tolerance" where it isn't 0; "attention_correctness", "iou_accuracy";
        "box_recall": {"R@1", "R@5", "R@10"} against any true box;
        "box_recall_merged": the same against the box around all true ones; both with "most_boxes" of a phrase, without
        more than five of which R@10 is R@5, and "ci95" and "macro" of R@1; macro is the mean over categories;
        "levels": {name: share}, "levels_by_category": {category: {name: phrases}};
        "baselines", "box_methods", "ablations": {name: {"pointing": {"accuracy", "ci95", "macro"},
        "attention_correctness", "iou_accuracy", "box_recall", "box_recall_merged", "levels", ...}}, as far as there is
        anything to measure;
        "compared": the same of the other system, and "difference": {metric: {"value", "ci95"}}, ours less theirs;
        "calibration": {"score", "cross_validated": {"ece", "bins"}}, see `calibration_summary`;
        "presence": {"auroc", "ci95", "present_above_half", "absent_above_half", "absent", "calibration"}, where absent
        phrases were asked for, see `presence_summary`.
        Phrases without a category are in none of the numbers by category.

    Raises:
        GroundcliError: no phrase was scored.
    """
    if rows.empty:
        why = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "no phrases at all"
        raise GroundcliError(f"nothing to score under protocol {options.protocol}: {why}; choose another split")
    by_system = _with_metrics(rows).groupby(["group", "system"], observed=True, sort=False)
    systems = {key: table.reset_index(drop=True) for key, table in by_system}
    groups: dict[str, Numbers] = {}
    for (group, system), table in systems.items():
        if group != ABSENT:
            groups.setdefault(group, {})[system] = _numbers(table)
    ((name, ours),) = groups[EVALUATED].items()
    evaluated = systems[EVALUATED, name]
    nothing: Numbers = {"pointing": dict.fromkeys(("accuracy", "ci95", "macro")), "attention_correctness": None}
    nothing |= {"iou_accuracy": None, **dict.fromkeys(RECALLS), "levels": {}, "levels_by_category": {}}
    main = nothing | ours
    main["pointing"] |= {point: groups[BASELINES][point]["pointing"]["accuracy"] for point in (CENTER, RANDOM)}
    main["pointing"] |= {"by_category": _by_category(evaluated, systems[BASELINES, CENTER])}
    main["pointing"] |= {"tolerance": options.tolerance} if options.tolerance else {}
    summary = {
        "protocol": options.protocol,
        "encode": options.encode,
        "images": evaluated["image"].nunique(),
        "phrases": len(evaluated),
        "skipped": dict(sorted(skipped.items())),
        **main,
        **{group: groups[group] for group in (BASELINES, BOX_METHODS, ABLATIONS) if group in groups},
    }
    for other, numbers in groups.get(COMPARED, {}).items():
        summary["compared"] = numbers | {"difference": _difference(evaluated, systems[COMPARED, other])}
    if _are_probabilities(evaluated):
        summary["calibration"] = calibration_summary(evaluated)
    if (ABSENT, name) in systems:
        summary["presence"] = presence_summary(evaluated, systems[ABSENT, name])
    return summary


def _with_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column for each metric, named as in JSON: what is averaged, NaN for the unknown."""
    shares = {f"{name} R@{k}": (table[rank], table[rank] <= k) for name, rank in RECALLS.items() for k in RANKS}
    shares["iou_accuracy"] = table["iou"], table["iou"] >= IOU
    metrics = {name: right.astype(float).where(measured.notna()) for name, (measured, right) in shares.items()}
    return table.assign(pointing=table["hit"], attention_correctness=table["attention"], **metrics)


def _numbers(table: pd.DataFrame) -> Numbers:
    """Of one system, as far as there is anything to measure."""
    means = table[METRICS].mean().dropna().to_dict()
    by_category = table.groupby("category", observed=True)[METRICS].mean()
    numbers: Numbers = {name: means[name] for name in METRICS[1:3] if name in means}

    def rate(name: str, metric: str) -> Numbers:
        macro = by_category[metric].mean() if len(by_category) else None
        return {name: means[metric], "ci95": interval(table[metric], table["image"]), "macro": macro}

    if "pointing" in means:
        numbers["pointing"] = rate("accuracy", "pointing")
    for name in RECALLS:
        if f"{name} R@1" in means:
            shares = {f"R@{k}": means[f"{name} R@{k}"] for k in RANKS}
            numbers[name] = shares | {"most_boxes": int(table["boxes"].max())} | rate("R@1", f"{name} R@1")
    if table["level"].notna().any():
        numbers["levels"] = table["level"].value_counts(normalize=True, sort=False).to_dict()
        counts = table.groupby(["category", "level"], observed=False).size().unstack()
        numbers["levels_by_category"] = counts.to_dict("index")
    return numbers


def _by_category(evaluated: pd.DataFrame, center: pd.DataFrame) -> Numbers:
    hits = pd.DataFrame({"accuracy": evaluated["hit"], "center": center["hit"]})
    groups = hits.groupby(evaluated["category"], observed=True)
    means = groups.mean().astype(object)
    return means.where(means.notna(), None).assign(phrases=groups.size()).to_dict("index")


def _difference(evaluated: pd.DataFrame, compared: pd.DataFrame) -> Numbers:
    """Of every metric that both have, phrase by phrase."""
    both = (evaluated[METRICS] - compared[METRICS]).dropna(axis="columns")
    return {
        name: {"value": float(both[name].mean()), "ci95": interval(both[name], evaluated["image"])}
        for name in both
        if not name.startswith("box_recall_merged")
    }


def interval(values: pd.Series, images: pd.Series) -> list[float]:
    """95 % percentile bootstrap interval of a mean over phrases, drawing images (Efron & Tibshirani, 1993): low, high.

    Phrases of one image stand and fall together, so images are drawn with all their phrases, the same ones each time.
    Differences of two systems give the interval of the paired difference. Values and images are (P).
    """
    image, known = pd.factorize(images)
    sums_and_counts = np.stack([np.bincount(image, values), np.bincount(image)])
    return _ends(lambda often: np.divide(*(sums_and_counts @ often)), len(known))


def _ends(of_draws: Callable[[np.ndarray], np.ndarray], images: int, width: int = 0) -> list[float]:
    """Between which 95 % of what comes out lie if images are drawn: low, high.

    `of_draws` is given how often each image comes in some draws, (images, R) float64, and says what comes out, (R);
    `width` is how many numbers it needs for one, if more than images.
    """
    often, at_once = _draws(images), max(1, AT_ONCE // max(width, images))
    parts = [of_draws(often[:, start : start + at_once].astype(float)) for start in range(0, RESAMPLES, at_once)]
    return [float(end) for end in np.percentile(np.concatenate(parts), (2.5, 97.5))]


@lru_cache(maxsize=1)
def _draws(images: int) -> np.ndarray:
    """How often each of some images comes in `RESAMPLES` draws of as many, (images, RESAMPLES) uint8."""
    draw = np.random.default_rng(0)
    drawn = np.zeros((images, RESAMPLES), np.uint8)
    for number in range(RESAMPLES):
        drawn[:, number] = np.bincount(draw.integers(images, size=images), minlength=images)
    return drawn


# --- Whether the score tells present things from absent ones


def presence_summary(present: pd.DataFrame, absent: pd.DataFrame) -> Numbers:
    """How well the score tells phrases of an image, its rows, from as many that aren't in it.

    "auroc" is the area under the ROC curve, the share of all pairs of a present and an absent phrase in which the
    present one scores higher, with its interval over images; then the shares of either that score above 0.5, and how
    many absent ones there were. "calibration" is the `reliability` of all together, where an absent phrase is a miss.
    """
    together = pd.concat([present, absent])
    images, known = pd.factorize(together["image"])
    here, there = images[: len(present)], images[len(present) :]
    lowest_first = np.argsort(absent["score"].to_numpy())
    # How many absent phrases a present one wins against, and how many it doesn't lose to: half of both together counts.
    lower = [np.searchsorted(absent["score"], present["score"], side, lowest_first) for side in ("left", "right")]
    shape, halves = (len(known), len(absent) + 1), np.full(2 * len(here), 0.5)
    against = csr_array((halves, (np.tile(here, 2), np.concatenate(lower))), shape)

    def areas(often: np.ndarray) -> np.ndarray:
        """Of draws, in which each image comes so often, (images, R)."""
        lowest = np.pad(often[there[lowest_first]].cumsum(0), ((1, 0), (0, 0)))  # so many of them, (absent + 1, R)
        wins = (often * (against @ lowest)).sum(0)
        return np.asarray(wins / np.maximum(1e-12, (np.bincount(here, minlength=len(known)) @ often) * lowest[-1]))

    summary: Numbers = {
        "auroc": float(areas(np.ones((len(known), 1)))[0]),
        "ci95": _ends(areas, *shape),
        "present_above_half": float((present["score"] > 0.5).mean()),
        "absent_above_half": float((absent["score"] > 0.5).mean()),
        "absent": len(absent),
    }
    if _are_probabilities(together):
        summary["calibration"] = reliability(together["score"].to_numpy(), together["hit"].to_numpy())
    return summary


def _are_probabilities(rows: pd.DataFrame) -> bool:
    """Whether scores can be, and it is known which of them are right."""
    return bool(rows["score"].between(0, 1).all() and rows["hit"].notna().all())


def average_precision(rows: pd.DataFrame, detections: Sequence[tuple[int, str, Box, float]]) -> Numbers:
    """pycocotools' average precision of boxes with COCO's category names: {"AP", "AP50"}.

    Asked for are, in each image, its own categories and as many others, so that a box of what isn't there counts
    against it. `rows` name the true boxes, in the order of the images' numbers in `detections`.
    """
    evaluated = rows[rows["group"] == EVALUATED]
    images = pd.factorize(evaluated["image"])[0]
    names = sorted({*evaluated["phrase"], *(name for _, name, *_ in detections)})
    category = {name: number for number, name in enumerate(names, start=1)}
    true = [
        {"image_id": image, "category_id": category[name], "bbox": box, "iscrowd": 0, "area": box[2] * box[3]}
        for image, name, boxes in zip(images.tolist(), evaluated["phrase"], evaluated["true_boxes"], strict=True)
        for box in json.loads(boxes)
    ]
    found = [
        {"image_id": image, "category_id": category[name], "bbox": [float(side) for side in box], "score": float(score)}
        for image, name, box, score in detections
    ]
    with redirect_stdout(io.StringIO()):  # pycocotools prints
        data = COCO()
        data.dataset = {
            "images": [{"id": number} for number in range(images.max() + 1)],
            "categories": [{"id": number} for number in category.values()],
            "annotations": [{"id": number, **one} for number, one in enumerate(true, start=1)],
        }
        data.createIndex()
        judge = COCOeval(data, data.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {"AP": float(judge.stats[0]), "AP50": float(judge.stats[1])}


# --- Whether scores are probabilities, and how to make them so


def fit(features: np.ndarray, hits: np.ndarray, counts: ArrayLike = 1.0) -> list[float]:
    """The calibration that makes hits likeliest, with Platt's smoothed targets (1999), which keep it finite.

    Of features (P, F), of `answer.PhraseHeat`, and hits (P), 1 or 0: 1 + F numbers for `heat.probability`. Phrases
    without heat are left out; `counts` (P) says how much each counts.
    """
    some, counts = np.isfinite(features).all(1), np.broadcast_to(counts, len(hits))
    mean, deviation = features[some].mean(0), features[some].std(0) + 1e-9
    inputs, right = np.column_stack([np.ones(some.sum()), (features[some] - mean) / deviation]), hits[some] > 0
    weights = (counts * len(counts) / counts.sum())[some]
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
    features: np.ndarray, hits: np.ndarray, images: np.ndarray, counts: ArrayLike = 1.0
) -> np.ndarray | None:
    """(P) each phrase's probability from a calibration that was fitted on other images; None for fewer than `FOLDS`.

    Features, hits and counts are those of `fit`, images (P) the number of each phrase's image, counted from 0.
    """
    if int(images.max()) + 1 < FOLDS:
        return None
    out, fold, counts = np.zeros(len(hits)), folds(images), np.broadcast_to(counts, len(hits))
    for k in range(FOLDS):
        seen = fold != k
        out[~seen] = probability(features[~seen], fit(features[seen], hits[seen], counts[seen]))
    return out


def folds(images: np.ndarray) -> np.ndarray:
    """(P) which of `FOLDS` parts each phrase is in, by its image's number (P); always the same."""
    return np.asarray(np.random.default_rng(0).permutation(int(images.max()) + 1)[images] % FOLDS)


def reliability(scores: np.ndarray, hits: np.ndarray) -> Numbers:
    """How often points, hits (P), are right whose scores, (P) from 0 to 1, are alike (Guo et al., ICML 2017).

    {"ece": expected calibration error, the mean distance of score and accuracy over `BINS` bins of equal width,
    weighted by their phrases, "bins": a list of {"score" (mean), "accuracy", "phrases"} of those that hold any}.
    """
    which = np.minimum((scores * BINS).astype(int), BINS - 1)
    numbers, phrases = np.unique(which, return_counts=True)
    score, accuracy = (np.bincount(which, values)[numbers] / phrases for values in (scores, hits))
    bins = zip(score.tolist(), accuracy.tolist(), phrases.tolist(), strict=True)
    return {
        "ece": float((phrases * abs(score - accuracy)).sum() / len(scores)),
        "bins": [dict(zip(("score", "accuracy", "phrases"), one, strict=True)) for one in bins],
    }


def calibration_summary(evaluated: pd.DataFrame) -> Numbers:
    """Reliability of scores, from 0 to 1: as they are, and calibrated on other images of these."""
    features, hits = inputs(evaluated)
    validated = cross_validated(features, hits, evaluated["image"].cat.codes.to_numpy()) if features.size else None
    scores = {"score": evaluated["score"].to_numpy(), "cross_validated": validated}
    return {name: reliability(values, hits) for name, values in scores.items() if values is not None}
