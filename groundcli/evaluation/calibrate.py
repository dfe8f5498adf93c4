"""What is fitted on validation data, and nothing else is: how far things reach, and the scores of phrases and of boxes,
so that both are probabilities.

Of a phrase, that the thing is there and the point on it; of a box, that it matches a true one. Both are fitted to the
phrases of images and to as many that aren't in them, which are wrong wherever the model points.
"""

import json
from itertools import chain
from threading import local
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from groundcli import data
from groundcli.data import Box
from groundcli.errors import GroundcliError
from groundcli.evaluation import CalibrateOptions, EvaluateOptions, summary
from groundcli.evaluation.metrics import IOU, Truth, box_iou, corners, pointing_hits
from groundcli.evaluation.rows import Progress, collect
from groundcli.evaluation.summary import FOLDS
from groundcli.evaluation.systems import ABSENT, EVALUATED, GrounderSystem, Predictions
from groundcli.heat.boxes import extent_boxes
from groundcli.heat.boxes import features as box_features

if TYPE_CHECKING:
    from torch import Tensor

    from groundcli.grounder import Grounder
    from groundcli.model.extent import Extent

KEPT = (0.99, 0.98, 0.95)  # shares of right points
RANKS = (1, 5)
Numbers = dict[str, Any]


class _Watched(GrounderSystem):
    """Keeps the size of each image, by name, and what an extent goes by of each of its phrases: clues and vectors.

    A new extent in its model is shown that, of all phrases of an image in one go.
    """

    def __init__(self, grounder: "Grounder") -> None:
        from groundcli.model.extent import Extent

        super().__init__(grounder, alone=True, absent_boxes=True)
        self.seen: dict[str, list[tuple[tuple[int, int], Tensor, Tensor]]] = {}
        self._asking = local()  # as several threads ask at a time
        assert hasattr(grounder.runtime, "model")
        model = grounder.runtime.model
        model.extent = model.part(Extent)
        model.extent.register_forward_pre_hook(self._keep)

    def _keep(self, _: "Extent", shown: "tuple[Tensor, Tensor]") -> None:
        truth, kept = self._asking.truth, (values.half().cpu() for values in shown)
        self.seen[truth.sample.name] = [(truth.size, *each) for each in zip(*kept, strict=True)]

    def _image(self, truth: Truth, *asked: Any) -> Predictions:
        self._asking.truth = truth
        return super()._image(truth, *asked)

    def phrases(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of all phrases that were seen, image by image, the absent ones last, with what was kept of each."""
        ours = rows[rows["group"].isin((EVALUATED, ABSENT)) & rows["image"].isin([*self.seen])]
        ours = ours.sort_values("image", kind="stable")
        kept = chain.from_iterable(self.seen[name] for name in ours["image"].unique())
        sizes, clues, vectors = zip(*kept, strict=True)
        return ours.assign(image=ours["file"].astype(str), size=sizes, clues=clues, vectors=vectors)


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
    from groundcli.weights.export import write_calibrated

    sets = [(name, root, data.load(name, root, options.split)) for name, root in options.sources]
    grounder = Grounder.load(options.weights, options.device, options.precision, options.settings, runtime="torch")
    assert grounder.loaded
    phrases = []
    for name, root, samples in sets:
        system = _Watched(grounder)
        told = EvaluateOptions(dataset=name, data=root, split=options.split)
        rows = collect(samples, told, system, progress=progress).table()
        if system.seen:
            phrases.append(system.phrases(rows).assign(set=name))
    if not any(np.isfinite(found["log_peak"]).any() for found in phrases):
        raise GroundcliError("no phrase has any heat; there is nothing to fit")
    table = pd.concat(phrases, ignore_index=True)
    (features, hits), images = summary.inputs(table), pd.factorize(table["image"])[0]
    # A small data set isn't drowned by a large one: each counts as the square root of its phrases.
    counts = 1 / np.sqrt(table.groupby("set")["set"].transform("size").to_numpy(float))
    scores = summary.cross_validated(features, hits, images, counts)
    if scores is None:
        raise GroundcliError(f"{images.max() + 1} images are too few to calibrate on; it takes {FOLDS} at least")
    table["score"] = scores
    extent = _fit_extents(grounder, table, counts, summary.folds(images))
    boxed = table[table["boxes"].map(len) > 0]
    of_boxes = box_features(boxed["boxes"].to_list(), np.array(boxed["size"].to_list()), boxed["score"].to_list())
    of, box_counts = (np.repeat(values[boxed.index], boxed["boxes"].map(len)) for values in (images, counts))
    matches = np.concatenate(boxed["matches"].to_list())
    box_scores = summary.cross_validated(of_boxes, matches, of, box_counts)
    assert box_scores is not None
    score, box = summary.fit(features, hits, counts), summary.fit(of_boxes, matches, box_counts)
    write_calibrated(grounder.loaded, extent, score, box, options.out)
    present, absent = table[table["group"] == EVALUATED], table[table["group"] == ABSENT]
    return {
        "phrases": len(table),
        "boxes": len(matches),
        "presence": summary.presence_summary(present, absent),
        "box_recall": {str(name): _recall(found) for name, found in present.groupby("set")},
        "box_ece": summary.reliability(box_scores, matches)["ece"],
        "keeps": {str(share): float(np.quantile(scores[hits > 0], 1 - share)) for share in KEPT},
    }


def _recall(found: pd.DataFrame) -> Numbers:
    """See `calibrate`, of the rows of a data set's phrases."""
    hits = {f"R@{k}": found["matches"].map(lambda matches, k=k: float(matches[:k].any())) for k in RANKS}
    return {rank: [float(hit.mean()), *summary.interval(hit, found["image"])] for rank, hit in hits.items()}


def _fit_extents(grounder: "Grounder", table: pd.DataFrame, counts: np.ndarray, fold: np.ndarray) -> "Extent":
    """An extent fitted to the phrases whose points are right; and into the table, for all, boxes from fits to others.

    The columns are "boxes", and "matches", 1 for each that matches a true one.
    """
    import torch

    from groundcli.model.extent import Extent, fit_extent

    assert hasattr(grounder.runtime, "model")
    model, side = grounder.runtime.model, grounder.config.visual.grid
    table["true"] = [json.loads(boxes) for boxes in table["true_boxes"]]
    table["covered"] = [_covered(row, side) for row in table.itertuples(name="Row")]
    right, heat = table["covered"].notna().to_numpy(), np.isfinite(table["log_peak"].to_numpy())
    shown = [torch.stack(table.pop(name).to_list()) for name in ("clues", "vectors")]

    def fitted(chosen: np.ndarray) -> Extent:
        some = np.flatnonzero(chosen & right)
        covered = torch.from_numpy(np.stack(table["covered"].iloc[some].to_list()))
        clues, vectors = (values[some].float() for values in shown)
        return fit_extent(model.part(Extent).cpu(), clues, vectors, covered, torch.from_numpy(counts[some]).float())

    found: dict[int, list[Box]] = {}
    for k in range(FOLDS):
        extent = fitted(fold != k)
        for i in np.flatnonzero((fold == k) & heat).tolist():
            covered = extent(*(values[[i]].float() for values in shown)).view(1, side, side).numpy()
            found[i], _ = extent_boxes(covered, table.at[i, "size"])[0]
    table["boxes"] = [found.get(i, []) for i in table.index]
    table["matches"] = [  # no box matches where there is no true one
        (box_iou(boxes, true) >= IOU).any(1).astype(float)
        for boxes, true in zip(table["boxes"], table["true"], strict=True)
    ]
    return fitted(np.ones(len(table), dtype=bool))


def _covered(phrase: Any, side: int) -> np.ndarray | None:
    """The share of each of side * side cells that is under the true box which a phrase's point lies in, float32."""
    around = [box for box in phrase.true if pointing_hits([(phrase.x, phrase.y)], [box])[0]]
    if not around:
        return None
    cells, (x0, y0, x1, y1), (width, height) = np.arange(side), corners(around[0])[0], phrase.size
    across, down = (
        np.clip(np.minimum(last * side, cells + 1) - np.maximum(first * side, cells), 0, 1)
        for first, last in ((x0 / width, x1 / width), (y0 / height, y1 / height))
    )
    return np.outer(down, across).ravel().astype(np.float32)
