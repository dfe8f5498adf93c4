"""All numbers of an evaluation, ready for JSON."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from groundcli.errors import GroundcliError
from groundcli.evaluation.baselines import CENTER, RANDOM
from groundcli.evaluation.bootstrap import interval
from groundcli.evaluation.calibration import calibration_summary
from groundcli.evaluation.collected import Collected
from groundcli.evaluation.measure import Measures
from groundcli.evaluation.run import COMPARED
from groundcli.evaluation.systems import ABLATIONS, BASELINES, BOX_METHODS, OWN

RANKS = (1, 5, 10)
Numbers = dict[str, Any]


def summarize(collected: Collected, levels: Sequence[str] = (), calibration: Sequence[float] = ()) -> Numbers:
    """All numbers; accuracies are fractions from 0 to 1, intervals over images, None is what couldn't be measured.

    Args:
        collected: all measures.
        levels: names of the visual levels; without them, their numbers.
        calibration: what the weights carry, if anything.

    Returns:
        "protocol", "encode", "images" (with scored phrases), "phrases" (scored), "skipped": {reason: phrases};
        "pointing": {"accuracy", "ci95", "macro", "center", "random", "by_category": {name: {"accuracy", "center",
        "phrases"}}}, and "tolerance" where it isn't 0; "attention_correctness", "iou_accuracy";
        "box_recall": {"R@1", "R@5", "R@10"} against any true box;
        "box_recall_merged": the same against the box around all true ones; both with "upper_bound" (all boxes),
        and "ci95" and "macro" of R@1; macro is the mean over categories;
        "levels": {name: share}, "levels_by_category": {category: {name: phrases}};
        "baselines", "box_methods", "ablations": {name: {"pointing": {"accuracy", "ci95", "macro"},
        "attention_correctness", "iou_accuracy", "box_recall", "box_recall_merged", "levels", ...}}, as far as there is
        anything to measure;
        "compared": the same of the other system, and "difference": {metric: {"value", "ci95"}}, ours less theirs;
        "calibration": {"score", "cross_validated", "weights": {"ece", "bins"}}, see `calibration_summary`.
        Phrases without a category have no row.

    Raises:
        GroundcliError: no phrase was scored.
    """
    settings = collected.settings
    if not collected.categories:
        why = ", ".join(f"{count} {reason}" for reason, count in collected.skipped.items()) or "no phrases at all"
        raise GroundcliError(f"nothing to score under protocol {settings.protocol}: {why}; choose another split")
    measures, images, categories = collected.measures(), collected.images, np.array(collected.categories)
    own = measures[OWN]
    groups: dict[str, dict[str, Numbers]] = {BASELINES: {}, BOX_METHODS: {}, ABLATIONS: {}}
    for (group, name), one in measures.items():
        if group in groups:
            groups[group][name] = _measured(_numbers(one, images, categories, levels))
    mine = _numbers(own, images, categories, levels)
    center = measures[BASELINES, CENTER].hit
    pointing = {
        **(mine["pointing"] or {"accuracy": None, "ci95": None, "macro": None}),
        "center": _mean(center),
        "random": _mean(measures[BASELINES, RANDOM].hit),
        "by_category": _by_category(own.hit, center, categories),
    }
    if settings.tolerance:
        pointing["tolerance"] = settings.tolerance
    summary = {
        "protocol": settings.protocol,
        "encode": settings.encode,
        "images": collected.image_count,
        "phrases": len(categories),
        "skipped": dict(sorted(collected.skipped.items())),
        **mine,
        "pointing": pointing,
        **{group: numbers for group, numbers in groups.items() if numbers},
    }
    if COMPARED in measures:
        other = measures[COMPARED]
        numbers = _measured(_numbers(other._replace(level=np.full(len(images), np.nan)), images, categories, ()))
        summary["compared"] = numbers | {"difference": _difference(own, other, images)}
    if np.all((own.score >= 0) & (own.score <= 1)) and mine["pointing"]:
        summary["calibration"] = calibration_summary(own.score, own.hit, images, collected.features, calibration)
    return summary


def _numbers(measures: Measures, images: np.ndarray, categories: np.ndarray, levels: Sequence[str]) -> Numbers:
    known = not np.isnan(measures.level).any()
    names = (levels or [str(i) for i in range(int(measures.level.max()) + 1)]) if known else ()
    counts = _level_counts(measures.level, names)
    by_category = {
        name: _level_counts(measures.level[categories == name], names) for name, _ in _largest_first(categories)
    }
    return {
        "pointing": _rate("accuracy", measures.hit, images, categories),
        "attention_correctness": _mean(measures.attention),
        "iou_accuracy": _mean(measures.iou),
        "box_recall": _recall(measures.any_rank, images, categories),
        "box_recall_merged": _recall(measures.merged_rank, images, categories),
        "levels": {name: count / len(images) for name, count in counts.items()},
        "levels_by_category": by_category if counts else {},
    }


def _measured(numbers: Numbers) -> Numbers:
    """Without what couldn't be measured."""
    return {name: value for name, value in numbers.items() if value not in (None, {})}


def _rate(name: str, hits: np.ndarray, images: np.ndarray, categories: np.ndarray) -> Numbers | None:
    """A mean over phrases, its interval over images, and the mean over categories of their means."""
    if np.isnan(hits).any():
        return None
    means = [hits[categories == category].mean() for category, _ in _largest_first(categories)]
    return {
        name: _mean(hits),
        "ci95": _interval(hits, images),
        "macro": float(np.mean(means)) if means else None,
    }


def _recall(ranks: np.ndarray, images: np.ndarray, categories: np.ndarray) -> Numbers | None:
    if np.isnan(ranks).any():
        return None
    return {
        **{f"R@{k}": _mean(ranks < k) for k in RANKS},
        "upper_bound": _mean(np.isfinite(ranks)),
        **(_rate("R@1", (ranks < 1).astype(float), images, categories) or {}),
    }


def _by_category(hits: np.ndarray, center: np.ndarray, categories: np.ndarray) -> Numbers:
    return {
        name: {
            "accuracy": _mean(hits[categories == name]),
            "center": _mean(center[categories == name]),
            "phrases": count,
        }
        for name, count in _largest_first(categories)
    }


def _difference(own: Measures, other: Measures, images: np.ndarray) -> Numbers:
    """Of every metric that both have."""
    pairs = {
        "pointing": (own.hit, other.hit),
        "attention_correctness": (own.attention, other.attention),
        "iou_accuracy": (own.iou, other.iou),
        **{f"box_recall R@{k}": (_within(own.any_rank, k), _within(other.any_rank, k)) for k in RANKS},
    }
    return {
        name: {"value": _mean(a - b), "ci95": _interval(a - b, images)}
        for name, (a, b) in pairs.items()
        if not np.isnan(a - b).any()
    }


def _within(ranks: np.ndarray, k: int) -> np.ndarray:
    return np.where(np.isnan(ranks), np.nan, ranks < k)


def _interval(values: np.ndarray, images: np.ndarray) -> list[float]:
    return list(interval(np.bincount(images, values), np.bincount(images)))


def _largest_first(categories: np.ndarray) -> list[tuple[str, int]]:
    return Counter(str(category) for category in categories if category).most_common()


def _level_counts(level: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    return {name: int((level == i).sum()) for i, name in enumerate(names)}


def _mean(values: np.ndarray) -> float | None:
    mean = float(np.mean(values))
    return None if np.isnan(mean) else mean
