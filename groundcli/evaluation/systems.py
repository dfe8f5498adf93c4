"""Who answers: a model with what is measured beside it, and the baselines, which need no word of a phrase."""

import copy
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy import ndimage

from groundcli.answer import PhraseHeat, Reading
from groundcli.data import Box, Caption
from groundcli.evaluation import Encode
from groundcli.evaluation.metrics import Predicted, Truth, covered_area
from groundcli.heat import peak
from groundcli.heat.boxes import DEFAULT, METHODS, Method, find_boxes
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
        absent_boxes: bool = False,
    ):
        """Of a grounder, and the name of its weights; `alone` gives nothing beside what the grounder itself says, and
        `absent_boxes` boxes of absent phrases, too.
        """
        self.grounder, self.name = grounder, name
        self.threads = cores() if grounder.on_cpu else 1
        self.side: int = grounder.config.visual.image_size
        self.levels: Sequence[str] = grounder.config.visual.levels
        ways = fusions(grounder) if ablations else {}
        self._grounders = {(EVALUATED, name): grounder} | {(ABLATIONS, way): other for way, other in ways.items()}
        self._encode, self._ablations, self._alone, self._absent_boxes = encode, ablations, alone, absent_boxes

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
        reading = self.grounder.reading()
        asked, whole_texts = [*captions, *truth.absent], [] if self._alone else [c.text for c in truth.captions]
        count, said = len(truth.phrases), sum(len(caption.phrases) for caption in asked)
        present, absent, sentence = np.s_[:count], np.s_[count:said], np.s_[said:]
        boxed = said + len(whole_texts) if self._ablations else said if self._absent_boxes else count
        # In one go, as an image costs most.
        heat = {
            key: it.phrase_heat(image, asked, text, whole_texts if it is self.grounder else (), boxed)
            for key, it in self._grounders.items()
        }
        predictions = {system: _predicted(_part(found, present), truth.size, reading) for system, found in heat.items()}
        whole, ours = heat[EVALUATED, self.name], predictions[EVALUATED, self.name]
        if truth.absent:
            predictions[ABSENT, self.name] = _predicted(_part(whole, absent), truth.size, reading, self._absent_boxes)
        if self._alone:
            return predictions
        by_method = {
            method: ours.boxes if method == reading.boxes else _boxes(method, _part(whole, present), truth.size)[0]
            for method in METHODS
            if method != "extents" or whole.extents.size
        }
        predictions |= {(BOX_METHODS, method): Predicted(boxes=boxes) for method, boxes in by_method.items()}
        # What whole sentences say of each of their phrases.
        sentences = _part(whole, sentence)
        caption_of = np.repeat(np.arange(len(truth.captions)), [len(caption.phrases) for caption in truth.captions])
        points, regions = zip(*(largest_region(sentence, truth.size) for sentence in sentences.maps), strict=True)
        in_regions = Predicted(np.array(points)[caption_of], boxes=[[regions[i]] for i in caption_of])
        predictions[BASELINES, SENTENCE_REGION] = in_regions
        if self._ablations:
            alone = self.grounder.phrase_heat(image, [], {}, [phrase.text for phrase in truth.phrases])
            for system, found in ((SENTENCE, _part(sentences, caption_of)), (ALONE, alone)):
                by_it = _predicted(found, truth.size, reading)
                predictions[ABLATIONS, system] = Predicted(by_it.points, boxes=by_it.boxes, heat=by_it.heat)
        return predictions


def _part(found: PhraseHeat, which: slice | np.ndarray) -> PhraseHeat:
    return PhraseHeat(*(values[which] for values in found))


def _predicted(found: PhraseHeat, size: tuple[int, int], reading: Reading, boxed: bool = True) -> Predicted:
    """What a model says of phrases; one without heat has no point."""
    points = np.where(found.maps.max((1, 2), initial=0)[:, None] > 0, peak(found.maps, size), np.nan)
    scores, boxes, box_scores = reading.scores(found), None, None
    if boxed:
        boxes, box_scores = _boxes(reading.boxes or DEFAULT, found, size, scores.tolist(), reading.box_calibration)
    return Predicted(points, None, boxes, found.maps, box_scores, scores, found.features, found.levels)


def _boxes(
    method: Method,
    found: PhraseHeat,
    size: tuple[int, int],
    scores: Sequence[float] = (),
    calibration: Sequence[float] = (),
) -> tuple[list[list[Box]], list[list[float]]]:
    """The boxes of each phrase, and their scores."""
    boxed = find_boxes(method, found.maps, found.extents, size, scores, calibration)
    return [boxes for boxes, _ in boxed], [likely for _, likely in boxed]


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
    return {
        (BASELINES, CENTER): Predicted(np.tile([width / 2, height / 2], (count, 1))),
        (BASELINES, WHOLE_IMAGE): Predicted(boxes=[[(0.0, 0.0, float(width), float(height))]] * count),
        (BASELINES, RANDOM): Predicted(chances=random_hit_probability(truth.boxes, truth.size, tolerance)),
    }


def random_hit_probability(boxes: np.ndarray, size: tuple[int, int], tolerance: float = 0) -> np.ndarray:
    """Probability that a point drawn evenly from an image of (width, height) lies in any of boxes (..., K, 4), (...):
    the share of the image under them, each side of which is moved outwards first by `tolerance` pixels.
    """
    return covered_area(boxes + tolerance * np.array([-1, -1, 2, 2]), size) / (size[0] * size[1])


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
