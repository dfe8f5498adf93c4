"""How good a model is on images that it doesn't learn from: what chooses the best epoch."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from groundcli.data.sample import Sample
from groundcli.data.words import tokenize
from groundcli.devices import autocast
from groundcli.errors import Interrupted
from groundcli.evaluation.metrics import pointing_hits, scored_phrases
from groundcli.grounder import Grounder
from groundcli.model.attention import pairwise_scores
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.loss import word_pertinence
from groundcli.options import Precision
from groundcli.training.features import LiveFeatures, MapBatch
from groundcli.training.gradient import Ranks

BATCH = 8  # images at the grid of use
GROUP = 50  # images among which a caption has to find its own: fixed, so that numbers of different data compare


class Judge(Protocol):
    """A measure; more is better.

    Attributes:
        name: of what it measures, a key of JSON.
        title: the same for people.
    """

    name: str
    title: str

    def __call__(self, model: GroundingModel, ranks: Ranks, precision: Precision, stopped: Callable[[], bool]) -> float:
        """A fraction. Raises Interrupted."""


@dataclass
class Pointing:
    """Pointing accuracy: the share of all phrases with a box whose point lies in one."""

    samples: Sequence[Sample]
    features: LiveFeatures
    name: str = "pointing_accuracy"
    title: str = "validation pointing accuracy"

    @torch.no_grad()
    def __call__(self, model: GroundingModel, ranks: Ranks, precision: Precision, stopped: Callable[[], bool]) -> float:
        """See `Judge`."""
        grounder = Grounder(model, model.backbone.mean.device, precision)
        hits = phrases = 0
        for batch in _read(self.features, ranks.share(self.features.indices), BATCH):
            if stopped():
                break
            images = grounder.encode_maps(batch.maps, batch.sizes)
            for index, size, image in zip(batch.indices, batch.sizes, images, strict=True):
                said = self.samples[index].captions
                captions = [replace(c, phrases=scored_phrases(c, size, "default")) for c in said]
                answers = grounder.ground_captions(image, captions, boxes=False)
                for caption, answer in zip(captions, answers, strict=True):
                    for phrase, grounded in zip(caption.phrases, answer.phrases, strict=True):
                        point = grounded.point or (math.nan, math.nan)
                        hits += bool(pointing_hits([point], phrase.boxes)[0])
                        phrases += 1
        model.train()
        return _share(ranks, hits, phrases, stopped)


@dataclass
class Pairing:
    """Recall of pairing, where nobody drew boxes: how often a caption finds its image among 50, and the image it."""

    samples: Sequence[Sample]
    features: LiveFeatures
    name: str = "pairing_recall"
    title: str = "validation recall of pairing"

    @torch.no_grad()
    def __call__(self, model: GroundingModel, ranks: Ranks, precision: Precision, stopped: Callable[[], bool]) -> float:
        """See `Judge`. The first caption of each image counts."""
        first = {index: self.samples[index].captions[0].text for index in self.features.indices}
        words = {index: [word.text for word in tokenize(text)] for index, text in first.items()}
        indices = [index for index in self.features.indices if words[index]]
        groups = [indices[i : i + GROUP] for i in range(0, len(indices), GROUP)]
        device, grid = model.backbone.mean.device, model.config.visual.grid
        model.eval()
        hits = tries = 0
        for group in ranks.share(groups):
            if stopped():
                break
            found = [batch for batch in _read(self.features, group, BATCH) if batch.indices]
            with autocast(device, precision):
                text = model.encode_text([words[index] for batch in found for index in batch.indices])
                both = torch.cat([model.word_mapping(text.words), model.sentence_mapping(text.sentences)], 1)
                maps = (pairwise_scores(model.visual_mapping(batch.maps, grid), both) for batch in found)
                scores = torch.cat(list(maps)).mean(-1)  # (B, U + B)
            count = len(scores)
            fit = word_pertinence(scores[:, :-count][:, text.index], text.mask, model.config.loss.gamma1)
            fit, own = fit + scores[:, -count:], torch.arange(count, device=device)
            hits += int((fit.argmax(0) == own).sum() + (fit.argmax(1) == own).sum())
            tries += 2 * count
        model.train()
        return _share(ranks, hits, tries, stopped)


def judge_by(samples: Sequence[Sample], features: LiveFeatures) -> Judge:
    """By pointing where any phrase has a box, else by pairing."""
    boxed = any(phrase.boxes for sample in samples for caption in sample.captions for phrase in caption.phrases)
    return Pointing(samples, features) if boxed else Pairing(samples, features)


def _read(features: LiveFeatures, indices: Sequence[int], size: int) -> Iterator[MapBatch]:
    batches = features.read(indices[i : i + size] for i in range(0, len(indices), size))
    return (batch for batch in batches if batch.indices)


def _share(ranks: Ranks, hits: int, tries: int, stopped: Callable[[], bool]) -> float:
    everyone = ranks.gather((hits, tries, stopped()))
    if any(stop for *_, stop in everyone):
        raise Interrupted("interrupted during validation")
    return sum(hits for hits, *_ in everyone) / max(1, sum(tries for _, tries, _ in everyone))
