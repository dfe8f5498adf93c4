"""What is fitted on validation data, and nothing else is: how far things reach, and the scores of phrases and of boxes,
so that both are probabilities.

Of a phrase, that the thing is there and the point on it; of a box, that it matches a true one. Both are fitted to the
phrases of images and to as many that aren't in them, which are wrong wherever the model points.
"""

from collections.abc import Sequence
from threading import local
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from groundcli import data
from groundcli.data import Box, Caption
from groundcli.errors import GroundcliError
from groundcli.evaluation import CalibrateOptions, EvaluateOptions
from groundcli.evaluation.metrics import IOU, Truth, box_iou, pointing_hits
from groundcli.evaluation.rows import Progress, collect
from groundcli.evaluation.summary import FOLDS, cross_validated, fit, folds, interval, presence_summary, reliability
from groundcli.evaluation.systems import ABSENT, GrounderSystem, Predictions
from groundcli.heat.boxes import extent_boxes
from groundcli.heat.boxes import features as box_features

if TYPE_CHECKING:
    from torch import Tensor

    from groundcli.grounder import EncodedCaptions, EncodedImage, Grounder
    from groundcli.model.extent import Extent

KEPT = (0.99, 0.98, 0.95)  # shares of right points
RANKS = (1, 5)
Numbers = dict[str, Any]


class _Watched(GrounderSystem):
    """Keeps what is fitted to of each image, by name: a row per phrase, with its true boxes and what an extent goes by.

    A new extent in its model is shown that. "covered" says how much of each cell is under the true box that the point
    lies in.
    """

    def __init__(self, grounder: "Grounder") -> None:
        from groundcli.model.extent import Extent

        super().__init__(grounder, alone=True, absent_boxes=True)
        self.seen: dict[str, list[Numbers]] = {}
        self._shown = local()  # as several threads ask at a time
        assert hasattr(grounder.runtime, "model")
        model = grounder.runtime.model
        model.extent = model.part(Extent)
        model.extent.register_forward_pre_hook(self._keep)

    def _keep(self, _: "Extent", shown: "tuple[Tensor, Tensor]") -> None:
        self._shown.last = [values.half().cpu() for values in shown]

    def _image(
        self, truth: Truth, image: "EncodedImage", captions: Sequence[Caption], text: "EncodedCaptions"
    ) -> Predictions:
        self._shown.last = ()
        predictions, rows = super()._image(truth, image, captions, text), []
        for (group, _), said in predictions.items():  # all phrases are shown in one go, in this order
            if not self._shown.last:  # there are no words
                break
            absent = group == ABSENT
            true = [()] * len(truth.absent) if absent else [phrase.boxes for phrase in truth.phrases]
            clues, vectors = (values[: len(true)] for values in self._shown.last)
            self._shown.last = [values[len(true) :] for values in self._shown.last]
            assert said.points is not None and said.heat is not None and said.features is not None  # noqa: PT018
            for each in zip(true, said.points, said.heat, said.features, clues, vectors, strict=True):
                boxes, point, heat, features, clue, vector = each
                around = [box for box in boxes if pointing_hits([point], [box])[0]]
                covered = covered_cells(around[0], truth.size, len(heat)) if around else None
                row = {"absent": absent, "size": truth.size, "features": features, "true": boxes, "heat": heat.any()}
                rows.append(row | {"hit": float(bool(around)), "covered": covered, "clues": clue, "vectors": vector})
        self.seen[truth.sample.name] = rows
        return predictions


def calibrate(options: CalibrateOptions, progress: Progress = lambda items, total: items) -> Numbers:
    """Fits the scores to validation images, and writes the weights with them into a new file.

    Args:
        options: what to do.
        progress: shows how far it is.

    Returns:
        All measured on images that the fit hasn't seen, in `FOLDS` parts, all data sets together: "phrases", "boxes"
        (that were fitted to, the absent ones' too), "presence" (see `presence_summary`), "box_recall", for
        each data set how many of its phrases have a match among their first and first five boxes, with the 95 %
        interval (see `interval`): {"R@1": [share, low, high], "R@5": ...}; "box_ece", the expected calibration error of
        boxes, and "keeps": for each share of right points the score that so many of them reach.

    Raises:
        GroundcliError: weights, data or the device are missing, too few images, or no phrase has any heat.
    """
    from groundcli.grounder import Grounder  # here, as wrong options and data are told before torch is imported
    from groundcli.weights.imports import write_calibrated

    sets = [(name, root, data.load(name, root, options.split)) for name, root in options.sources]
    grounder = Grounder.load(options.weights, options.device, options.precision, options.settings, runtime="torch")
    assert grounder.loaded
    rows: list[Numbers] = []
    for name, root, samples in sets:
        system = _Watched(grounder)
        collect(samples, EvaluateOptions(dataset=name, data=root, split=options.split), system, progress=progress)
        for sample in samples:
            rows += [row | {"set": name, "image": str(sample.image)} for row in system.seen.get(sample.name, [])]
    table = pd.DataFrame(rows)
    if table.empty or not np.isfinite(features := np.stack(table["features"].to_list())).all(1).any():
        raise GroundcliError("no phrase has any heat; there is nothing to fit")
    hits, images = table["hit"].to_numpy(), pd.factorize(table["image"])[0]
    # A small data set isn't drowned by a large one: each counts as the square root of its phrases.
    counts = 1 / np.sqrt(table.groupby("set")["set"].transform("size").to_numpy(float))
    scores = cross_validated(features, hits, images, counts)
    if scores is None:
        raise GroundcliError(f"{images.max() + 1} images are too few to calibrate on; it takes {FOLDS} at least")
    table["score"] = scores
    extent = _fit_extents(grounder, table, counts, folds(images))
    boxed = table[table["boxes"].map(len) > 0]
    inputs = np.concatenate([box_features(row.boxes, row.size, row.score) for row in boxed.itertuples(name="Row")])
    matches, of = np.concatenate(boxed["matches"].to_list()), np.repeat(images[boxed.index], boxed["boxes"].map(len))
    box_counts = np.repeat(counts[boxed.index], boxed["boxes"].map(len))
    box_scores = cross_validated(inputs, matches, of, box_counts)
    assert box_scores is not None
    score, box = fit(features, hits, counts), fit(inputs, matches, box_counts)
    write_calibrated(grounder.loaded, extent, score, box, options.out)
    present, absent = table[~table["absent"]], table[table["absent"]]
    return {
        "phrases": len(table),
        "boxes": len(matches),
        "presence": presence_summary(present, absent),
        "box_recall": {str(name): _recall(found) for name, found in present.groupby("set")},
        "box_ece": reliability(box_scores, matches)["ece"],
        "keeps": {str(share): float(np.quantile(scores[hits > 0], 1 - share)) for share in KEPT},
    }


def _recall(found: pd.DataFrame) -> Numbers:
    """See `calibrate`, of the rows of a data set's phrases."""
    hits = {f"R@{k}": found["matches"].map(lambda matches, k=k: float(matches[:k].any())) for k in RANKS}
    return {rank: [float(hit.mean()), *interval(hit, found["image"])] for rank, hit in hits.items()}


def _fit_extents(grounder: "Grounder", table: pd.DataFrame, counts: np.ndarray, fold: np.ndarray) -> "Extent":
    """An extent fitted to the phrases whose points are right; and into the table, for all, boxes from fits to others.

    The columns are "boxes", and "matches", 1 for each that matches a true one.
    """
    import torch

    from groundcli.model.extent import Extent, fit_extent

    assert hasattr(grounder.runtime, "model")
    model, right, found = grounder.runtime.model, table["hit"].to_numpy() > 0, np.zeros(len(table), dtype=object)

    def looked(chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        rows = table.iloc[chosen]
        return torch.stack(rows["clues"].to_list()).float(), torch.stack(rows["vectors"].to_list()).float()

    def fitted(chosen: np.ndarray) -> Extent:
        some = np.flatnonzero(chosen & right)
        covered = torch.from_numpy(np.stack(table["covered"].iloc[some].to_list()))
        return fit_extent(model.part(Extent).cpu(), *looked(some), covered, torch.from_numpy(counts[some]).float())

    for left_out in (fold == k for k in range(FOLDS)):
        extent = fitted(~left_out)
        for i in np.flatnonzero(left_out & table["heat"].to_numpy()):
            side = grounder.config.visual.grid
            covered = extent(*looked(np.array([i]))).view(1, side, side).numpy()
            found[i], _ = extent_boxes(covered, table["size"].iloc[i])[0]
    table["boxes"] = [boxes or [] for boxes in found]
    table["matches"] = [  # no box matches where there is no true one
        (box_iou(boxes, true) >= IOU).any(1).astype(float)
        for boxes, true in zip(table["boxes"], table["true"], strict=True)
    ]
    return fitted(np.ones(len(table), dtype=bool))


def covered_cells(box: Box, size: tuple[int, int], side: int) -> np.ndarray:
    """The share of each of side * side cells of an image of (width, height) that a box covers, float32."""
    each, shares = np.arange(side), []
    for start, length, pixels in zip(box[:2], box[2:], size, strict=True):
        first, last = start / pixels * side, (start + length) / pixels * side
        shares.append(np.clip(np.minimum(last, each + 1) - np.maximum(first, each), 0, 1))
    across, down = shares
    return np.outer(down, across).ravel().astype(np.float32)
