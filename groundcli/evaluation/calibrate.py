"""What is fitted on validation data, and nothing else is: the scores of phrases and of boxes, so that both are
probabilities.

Of a phrase, that the thing is there and the point on it; of a box, that it matches a true one. Both are fitted to the
phrases of images and to as many that aren't in them, which are wrong wherever the model points.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from groundcli import data
from groundcli.data import Box
from groundcli.errors import GroundcliError
from groundcli.evaluation import CalibrateOptions, EvaluateOptions
from groundcli.evaluation.metrics import IOU, Truth, box_iou, pointing_hits
from groundcli.evaluation.rows import Progress, collect
from groundcli.evaluation.summary import FOLDS, cross_validated, fit, presence_summary, reliability
from groundcli.evaluation.systems import ABSENT, GrounderSystem, Predictions
from groundcli.heat.boxes import features as box_features

if TYPE_CHECKING:
    from groundcli.grounder import Grounder

KEPT = (0.99, 0.98, 0.95)  # shares of right points
Numbers = dict[str, Any]


class _Watched(GrounderSystem):
    """Keeps what it says of each image, by name: what is fitted to are all boxes, not the best alone."""

    def __init__(self, grounder: "Grounder") -> None:
        super().__init__(grounder, alone=True)
        self.seen: dict[str, tuple[Truth, Predictions]] = {}

    def _image(self, truth: Truth, *arguments: Any) -> Predictions:
        predictions = super()._image(truth, *arguments)
        self.seen[truth.sample.name] = truth, predictions
        return predictions


def calibrate(options: CalibrateOptions, progress: Progress = lambda items, total: items) -> Numbers:
    """Fits the scores to validation images, and writes the weights with them into a new file.

    Args:
        options: what to do.
        progress: shows how far it is.

    Returns:
        All measured on images that the fit hasn't seen, in `FOLDS` parts, all data sets together: "phrases", "boxes"
        (that were fitted to, the absent ones' too), "presence" (see `presence_summary`), "box_ece", the expected
        calibration error of boxes, and "keeps": for each share of right points the score that so many of them reach.

    Raises:
        GroundcliError: weights, data or the device are missing, too few images, or no phrase has any heat.
    """
    from groundcli.grounder import Grounder  # here, as wrong options and data are told before torch is imported
    from groundcli.weights.imports import write_calibrated

    sets = [(name, root, data.load(name, root, options.split)) for name, root in options.sources]
    grounder = Grounder.load(options.weights, options.device, options.precision, options.settings)
    assert grounder.loaded
    rows: list[Numbers] = []
    for name, root, samples in sets:
        system = _Watched(grounder)
        collect(samples, EvaluateOptions(dataset=name, data=root, split=options.split), system, progress=progress)
        for sample in samples:
            if sample.name in system.seen:
                rows += [row | {"set": name} for row in _rows(f"{name} {sample.name}", *system.seen[sample.name])]
    table = pd.DataFrame(rows)
    features, hits = np.stack(table["features"].to_list()), table["hit"].to_numpy()
    if not np.isfinite(features).all(1).any():
        raise GroundcliError("no phrase has any heat; there is nothing to fit")
    images = pd.factorize(table["image"])[0]
    # A small data set isn't drowned by a large one: each counts as the square root of its phrases.
    counts = 1 / np.sqrt(table.groupby("set")["set"].transform("size").to_numpy(float))
    scores = cross_validated(features, hits, images, counts)
    if scores is None:
        raise GroundcliError(f"{images.max() + 1} images are too few to calibrate on; it takes {FOLDS} at least")
    table["score"] = scores
    boxed = table[table["boxes"].map(len) > 0]
    inputs = np.concatenate([box_features(row.boxes, row.size, row.score) for row in boxed.itertuples(name="Row")])
    matches, of = np.concatenate(boxed["matches"].to_list()), np.repeat(images[boxed.index], boxed["boxes"].map(len))
    box_counts = np.repeat(counts[boxed.index], boxed["boxes"].map(len))
    box_scores = cross_validated(inputs, matches, of, box_counts)
    assert box_scores is not None
    score, box = fit(features, hits, counts), fit(inputs, matches, box_counts)
    write_calibrated(grounder.loaded, score, box, options.out)
    present, absent = table[~table["absent"]], table[table["absent"]]
    return {
        "phrases": len(table),
        "boxes": len(matches),
        "presence": presence_summary(present, absent),
        "box_ece": reliability(box_scores, matches)["ece"],
        "keeps": {str(share): float(np.quantile(scores[hits > 0], 1 - share)) for share in KEPT},
    }


def _rows(image: str, truth: Truth, predictions: Predictions) -> list[Numbers]:
    """What is fitted to of an image: a row per phrase, those that aren't in it after those that are."""
    rows: list[Numbers] = []
    for (group, _), said in predictions.items():
        absent = group == ABSENT
        phrases = [phrase for caption in (truth.absent if absent else truth.captions) for phrase in caption.phrases]
        assert said.points is not None and said.boxes is not None and said.features is not None  # noqa: PT018
        for phrase, point, boxes, features in zip(phrases, said.points, said.boxes, said.features, strict=True):
            true = () if absent else phrase.boxes
            hit = bool(true) and bool(pointing_hits([point], true)[0])
            matches = _matches(boxes, true)
            about = {"image": image, "absent": absent, "size": truth.size, "features": features, "hit": float(hit)}
            rows.append(about | {"boxes": boxes, "matches": matches})
    return rows


def _matches(boxes: Sequence[Box], true: Sequence[Box]) -> np.ndarray:
    """(K) which boxes match any true one, 1 or 0."""
    if not boxes or not true:
        return np.zeros(len(boxes))
    return (box_iou(boxes, true) >= IOU).any(1).astype(float)
