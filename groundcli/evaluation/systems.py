"""Who answers: a grounder with what is measured beside it, or somebody else's file."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Protocol

import numpy as np
import torch

from groundcli.answer import GroundedPhrase
from groundcli.data.sample import Box, Caption, Phrase
from groundcli.evaluation.ablations import ALONE, SENTENCE, fusions, variant
from groundcli.evaluation.baselines import SENTENCE_REGION, largest_region
from groundcli.evaluation.measure import Predicted
from groundcli.evaluation.protocol import Encode
from groundcli.evaluation.truth import Truth
from groundcli.grounder import EncodedImage, Grounder
from groundcli.heat.boxes import METHODS, Method
from groundcli.heat.pixels import peak

OWN = ("", "")
BASELINES, BOX_METHODS, ABLATIONS = "baselines", "box_methods", "ablations"
Answers = dict[tuple[str, str], Predicted]  # by group and name; OWN is what the system itself says


class System(Protocol):
    """Answers for some images, each with the scored phrases of its captions; several threads may ask at a time.

    Attributes:
        threads: that had best ask at a time.
        side: of the pixels that it wants; 0 for none.
        levels: names of its visual levels.
        calibration: of its score, where its weights carry one.
    """

    threads: int
    side: int
    levels: Sequence[str]
    calibration: Sequence[float]

    def __call__(self, pixels: Sequence[np.ndarray], truths: Sequence[Truth]) -> list[Answers]:
        """One `Answers` an image; pixels are (side, side, 3) uint8 RGB."""


class GrounderSystem:
    """A grounder, its boxes by every method, the baselines and, if asked for, the ablations; images encoded once."""

    def __init__(self, grounder: Grounder, encode: Encode = "caption", ablations: bool = False, alone: bool = False):
        """Args:
        grounder: whose score is taken before calibration.
        encode: see `protocol.Settings`.
        ablations: whether to run them.
        alone: nothing beside the grounder itself.
        """
        self.grounder = variant(grounder, calibration=())
        self.threads = torch.get_num_threads() if grounder.device.type == "cpu" else 1
        self.side = grounder.model.config.visual.image_size
        self.levels: Sequence[str] = grounder.model.config.visual.levels
        self.calibration: Sequence[float] = grounder.model.config.calibration
        self._encode = encode
        self._fusions = fusions(self.grounder) if ablations else {}
        self._ablations = ablations
        self._alone = alone

    def __call__(self, pixels: Sequence[np.ndarray], truths: Sequence[Truth]) -> list[Answers]:
        """See `System`."""
        images = self.grounder.encode_pixels(pixels, [truth.size for truth in truths])
        captions = [_alone(truth.phrases) if self._encode == "phrase" else truth.captions for truth in truths]
        boxed = [_Boxes() for _ in truths]
        found: list[Answers] = [{} for _ in truths]
        grounders = {OWN: self.grounder} | {(ABLATIONS, name): own for name, own in self._fusions.items()}
        text = self.grounder.encode_captions(chain.from_iterable(captions))
        for name, grounder in grounders.items():
            for image, own, truth, boxes, into in zip(images, captions, truths, boxed, found, strict=True):
                answers = grounder.ground_captions(image, own, text, boxes=False)
                phrases = [phrase for answer in answers for phrase in answer.phrases]
                into[name] = _predicted(phrases, boxes(self.grounder.boxes, [p.heatmap for p in phrases], truth.size))
        if not self._alone:
            for image, truth, boxes, into in zip(images, truths, boxed, found, strict=True):
                into |= self._beside(image, truth, boxes, into[OWN])
        return found

    def _beside(self, image: EncodedImage, truth: Truth, boxes: "_Boxes", own: Predicted) -> Answers:
        assert own.heat is not None
        sentences = self.grounder.sentence_heat(image, [caption.text for caption in truth.captions])
        rows = np.repeat(np.arange(len(truth.captions)), [len(caption.phrases) for caption in truth.captions])
        regions = [largest_region(heat, truth.size) for heat in sentences]
        beside = {
            (BASELINES, SENTENCE_REGION): Predicted(
                np.array([regions[i][0] for i in rows]), [[regions[i][1]] for i in rows]
            )
        }
        beside |= {(BOX_METHODS, m): Predicted(boxes=boxes(m, own.heat, truth.size)) for m in METHODS}
        if self._ablations:
            alone = self.grounder.sentence_heat(image, [phrase.text for phrase in truth.phrases])
            for name, heat in ((SENTENCE, sentences[rows]), (ALONE, alone)):
                points = peak(heat, truth.size)
                beside[ABLATIONS, name] = Predicted(points, boxes(self.grounder.boxes, heat, truth.size), heat)
        return beside


class _Boxes:
    """Boxes of one image's heat maps; equal ones, as of "a man" in two captions, are boxed once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Method, bytes], list[Box]] = {}

    def __call__(self, method: Method, heat: Iterable[np.ndarray], size: tuple[int, int]) -> list[list[Box]]:
        return [self._boxes(method, own, size) for own in heat]

    def _boxes(self, method: Method, heat: np.ndarray, size: tuple[int, int]) -> list[Box]:
        key = method, heat.tobytes()
        if key not in self._known:
            self._known[key] = METHODS[method](heat, size)[0]
        return self._known[key]


def _alone(phrases: Sequence[Phrase]) -> list[Caption]:
    """Every phrase as a caption of its own."""
    return [Caption(phrase.text, (Phrase(phrase.text, (0, len(phrase.text))),)) for phrase in phrases]


def _predicted(phrases: Sequence[GroundedPhrase], boxes: list[list[Box]]) -> Predicted:
    return Predicted(
        points=np.array([phrase.point for phrase in phrases], dtype=float).reshape(-1, 2),
        boxes=boxes,
        heat=np.array([phrase.heatmap for phrase in phrases]),
        scores=np.array([phrase.score for phrase in phrases], dtype=float),
        levels=np.array([phrase.level for phrase in phrases], dtype=int),
    )
