"""Who answers: a model with what is measured beside it, and the baselines, which need no word of a phrase."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from groundcli.answer import PhraseHeat, Reading
from groundcli.data import Box, Caption
from groundcli.evaluation import Encode
from groundcli.evaluation.metrics import Predicted, Truth, covered_area
from groundcli.heat import peak
from groundcli.heat.boxes import DEFAULT, METHODS, Boxes, Method, find_boxes
from groundcli.parallel import cores

if TYPE_CHECKING:
    from groundcli.grounder import EncodedCaptions, EncodedImage, Grounder

# The groups of systems: what is evaluated, what it is compared with, and what is measured beside it.
EVALUATED, COMPARED, ABSENT = "evaluated", "compared", "absent"  # the last: absent phrases, as the first says
BASELINES, BOX_METHODS, ABLATIONS = "baselines", "box_methods", "ablations"
CENTER, RANDOM, WHOLE_IMAGE, SENTENCE_REGION = "center", "random", "whole_image", "sentence_region"
BEST, SENTENCE, ALONE = "best level (the paper's)", "sentence of the caption", "phrase as a sentence"
HOT = 0.5  # share of the highest heat from which on a cell belongs to a region

Predictions = dict[tuple[str, str], Predicted]  # by the group and the name of the system


class System(Protocol):
    """Answers for some images, each with the scored phrases of its captions; several threads may ask at a time."""

    name: str  # what it is called in tables
    threads: int  # that had best ask at a time
    side: int  # of the pixels that it wants; 0 for none
    levels: Sequence[str]  # names of its visual levels

    def __call__(self, pixels: Sequence[np.ndarray], truths: Sequence[Truth]) -> list[Predictions]:
        """Predictions for each image; pixels are (side, side, 3) uint8 RGB."""


class GrounderSystem:
    """A grounder, its boxes by every method, the baselines and, if asked for, the ablations; images encoded once."""

    def __init__(
        self,
        grounder: "Grounder",
        name: str = "",
        encode: Encode = "caption",
        ablations: bool = False,
        alone: bool = False,
    ):
        """Of a grounder, and the name of its weights; `alone` gives nothing beside what the grounder itself says."""
        self.grounder, self.name = grounder, name
        self.threads = cores() if grounder.on_cpu else 1
        self.side: int = grounder.config.visual.image_size
        self.levels: Sequence[str] = grounder.config.visual.levels
        ways = fusions(grounder) if ablations else {}
        self._grounders = {(EVALUATED, name): grounder} | {(ABLATIONS, way): other for way, other in ways.items()}
        self._encode, self._ablations, self._alone = encode, ablations, alone

    def __call__(self, pixels: Sequence[np.ndarray], truths: Sequence[Truth]) -> list[Predictions]:
        """See `System`."""
        captions = [truth.captions for truth in truths]
        if self._encode == "phrase":
            captions = [[Caption.of_phrase(phrase.text) for phrase in truth.phrases] for truth in truths]
        images = self.grounder.encode_pixels(pixels, [truth.size for truth in truths])
        text = self.grounder.encode_captions(chain(*captions, *(truth.absent for truth in truths)))
        return [self._image(*each, text) for each in zip(truths, images, captions, strict=True)]

    def _image(
        self, truth: Truth, image: "EncodedImage", captions: Sequence[Caption], text: "EncodedCaptions"
    ) -> Predictions:
        boxes = _Boxes(truth.size, self.grounder.reading())
        asked, whole_texts = [*captions, *truth.absent], [] if self._alone else [c.text for c in truth.captions]
        # In one go, as an image costs most.
        heat = {
            key: it.phrase_heat(image, asked, text, whole_texts if it is self.grounder else ())
            for key, it in self._grounders.items()
        }
        count, said = len(truth.phrases), sum(len(caption.phrases) for caption in asked)
        present, absent, sentence = np.s_[:count], np.s_[count:said], np.s_[said:]
        predictions = {system: boxes.predicted(_part(found, present)) for system, found in heat.items()}
        whole, ours = heat[EVALUATED, self.name], predictions[EVALUATED, self.name]
        if truth.absent:
            predictions[ABSENT, self.name] = boxes.predicted(_part(whole, absent))
        if self._alone:
            return predictions
        predictions |= {
            (BOX_METHODS, method): Predicted(boxes=boxes.by(method, _part(whole, present), ours.scores)[0])
            for method in METHODS
            if method != "extents" or whole.extents.size
        }
        # What whole sentences say of each of their phrases.
        sentences = _part(whole, sentence)
        caption_of = np.repeat(np.arange(len(truth.captions)), [len(caption.phrases) for caption in truth.captions])
        points, regions = zip(*(largest_region(sentence, truth.size) for sentence in sentences.maps), strict=True)
        in_regions = Predicted(np.array(points)[caption_of], boxes=[[regions[i]] for i in caption_of])
        predictions[BASELINES, SENTENCE_REGION] = in_regions
        if self._ablations:
            alone = self.grounder.phrase_heat(image, [], {}, [phrase.text for phrase in truth.phrases])
            predictions[ABLATIONS, SENTENCE] = boxes.predicted(_part(sentences, caption_of), scored=False)
            predictions[ABLATIONS, ALONE] = boxes.predicted(alone, scored=False)
        return predictions


def _part(found: PhraseHeat, which: slice | np.ndarray) -> PhraseHeat:
    return PhraseHeat(*(values[which] for values in found))


class _Boxes:
    """Points and boxes of one image's heat maps; equal ones, as of "a man" in two captions, are boxed once."""

    def __init__(self, size: tuple[int, int], reading: Reading) -> None:
        self._size, self._reading = size, reading
        self._known: dict[tuple[Any, ...], Boxes] = {}

    def predicted(self, found: PhraseHeat, scored: bool = True) -> Predicted:
        """What the model says of phrases, or points and boxes alone; a phrase without heat has no point."""
        maps = found.maps
        points = np.where(maps.max((1, 2), initial=0)[:, None] > 0, peak(maps, self._size), np.nan)
        scores = self._reading.scores(found) if scored else None
        boxes, box_scores = self.by(self._reading.boxes or DEFAULT, found, scores)
        said = Predicted(points, boxes=boxes, heat=maps, box_scores=box_scores)
        return replace(said, scores=scores, features=found.features, levels=found.levels) if scored else said

    def by(
        self, method: Method, found: PhraseHeat, scores: np.ndarray | None
    ) -> tuple[list[list[Box]], list[list[float]]]:
        """The boxes of each phrase, and their scores."""
        boxed, scores = [], np.zeros(len(found.maps)) if scores is None else scores
        for heat, extent, score in zip(found.maps, found.extents, scores.tolist(), strict=True):
            key = method, heat.tobytes(), extent.tobytes(), score
            if key not in self._known:
                calibration = self._reading.box_calibration
                self._known[key] = find_boxes(method, heat, extent, self._size, score, calibration)
            boxed.append(self._known[key])
        return [boxes for boxes, _ in boxed], [scores for _, scores in boxed]


# --- The paper's ablations that need no training: other ways from the same levels and words to a heat map


def variant(grounder: "Grounder", **changes: Any) -> "Grounder":
    """The same weights with another `ModelConfig`; by torch, as an export is of one."""
    assert hasattr(grounder.runtime, "changed")
    other = copy.copy(grounder)
    other.runtime = grounder.runtime.changed(**changes)
    return other


def fusions(grounder: "Grounder") -> Mapping[str, "Grounder"]:
    """By names: each level alone, the level that fits a word best (the paper's), and all levels averaged alike."""
    levels = grounder.config.visual.levels
    alone = {f"{level} alone": tuple(float(other == level) for other in levels) for level in levels}
    return {name: variant(grounder, fusion="average", level_weights=weights) for name, weights in alone.items()} | {
        BEST: variant(grounder, fusion="best"),
        "levels averaged": variant(grounder, fusion="average", level_weights=()),
        "levels averaged, weighted": variant(grounder, fusion="average"),
    }


# --- Baselines: what a model has to beat


def baselines(truth: Truth, tolerance: float) -> Predictions:
    """The image's centre, the whole image as a box, and a point drawn evenly from the image."""
    count, (width, height) = len(truth.phrases), truth.size
    chances = [random_hit_probability(phrase.boxes, truth.size, tolerance) for phrase in truth.phrases]
    return {
        (BASELINES, CENTER): Predicted(np.tile([width / 2, height / 2], (count, 1))),
        (BASELINES, WHOLE_IMAGE): Predicted(boxes=[[(0.0, 0.0, float(width), float(height))]] * count),
        (BASELINES, RANDOM): Predicted(chances=np.array(chances)),
    }


def random_hit_probability(boxes: ArrayLike, size: tuple[int, int], tolerance: float = 0) -> float:
    """Probability that a point drawn evenly from an image of (width, height) lies in any of boxes (K, 4), each side of
    which is moved outwards first by `tolerance` pixels: the share of the image under them.
    """
    grown = np.asarray(boxes, dtype=float).reshape(-1, 4) + tolerance * np.array([-1, -1, 2, 2])
    return covered_area(grown, size) / (size[0] * size[1])


def largest_region(heat: np.ndarray, size: tuple[int, int]) -> tuple[tuple[float, float], Box]:
    """The largest region of connected cells (4 neighbours) with at least half of the highest heat.

    Of cells (M, M), not negative, over an image of (width, height): the centre of its hottest cell and the box around
    its cells, in pixels of the image. Without heat, the centre and the whole image.
    """
    if not heat.max() > 0:
        return (size[0] / 2, size[1] / 2), (0, 0, *size)
    regions, _ = ndimage.label(heat >= HOT * heat.max())
    inside = regions == np.bincount(regions.ravel())[1:].argmax() + 1
    wide, high = size[0] / heat.shape[1], size[1] / heat.shape[0]
    y, x = divmod(int(np.where(inside, heat, -1).argmax()), heat.shape[1])
    ys, xs = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return ((x + 0.5) * wide, (y + 0.5) * high), (xs[0] * wide, ys[0] * high, len(xs) * wide, len(ys) * high)
