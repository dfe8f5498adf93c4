"""How good a model is on images that it doesn't learn from: what chooses the best epoch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from groundcli.data.sample import Sample
from groundcli.data.words import tokenize
from groundcli.devices import autocast
from groundcli.errors import Interrupted
from groundcli.evaluation.metrics import pointing_hits
from groundcli.evaluation.protocol import scored_phrases
from groundcli.grounder import Grounder
from groundcli.model.attention import pairwise_scores
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.loss import word_pertinence
from groundcli.options import Precision
from groundcli.training.features import FeatureSource, MapBatch
from groundcli.training.ranks import Ranks

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
    features: FeatureSource
    name: str = "pointing_accuracy"
    title: str = "validation pointing accuracy"

    @torch.no_grad()
    def __call__(self, model: GroundingModel, ranks: Ranks, precision: Precision, stopped: Callable[[], bool]) -> float:
        """See `Judge`."""
        grounder = Grounder(model, model.backbone.mean.device, precision)
        hits = phrases = 0
        for batch in _read(self.features, ranks.share(self.features.rows), BATCH):
            if stopped():
                break
            images = grounder.encode_maps(batch.maps, batch.sizes)
            for row, size, image in zip(batch.rows, batch.sizes, images, strict=True):
                captions = [replace(c, phrases=scored_phrases(c, size, "default")) for c in self.samples[row].captions]
                answers = grounder.ground_captions(image, captions, boxes=False)
                for caption, answer in zip(captions, answers, strict=True):
                    for phrase, grounded in zip(caption.phrases, answer.phrases, strict=True):
                        hits += bool(pointing_hits([grounded.point], phrase.boxes)[0])
                        phrases += 1
        model.train()
        return _share(ranks, hits, phrases, stopped)


@dataclass
class Pairing:
    """Recall of pairing, where nobody drew boxes: how often a caption finds its image among 50, and the image it."""

    samples: Sequence[Sample]
    features: FeatureSource
    name: str = "pairing_recall"
    title: str = "validation recall of pairing"

    @torch.no_grad()
    def __call__(self, model: GroundingModel, ranks: Ranks, precision: Precision, stopped: Callable[[], bool]) -> float:
        """See `Judge`. The first caption of each image counts."""
        words = {row: [w.text for w in tokenize(self.samples[row].captions[0].text)] for row in self.features.rows}
        rows = [row for row in self.features.rows if words[row]]
        groups = [rows[i : i + GROUP] for i in range(0, len(rows), GROUP)]
        device, grid = model.backbone.mean.device, model.config.visual.grid
        model.eval()
        hits = tries = 0
        for group in ranks.share(groups):
            if stopped():
                break
            found = [batch for batch in _read(self.features, group, BATCH) if batch.rows]
            with autocast(device, precision):
                text = model.encode_text([words[row] for batch in found for row in batch.rows])
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


def judge_by(samples: Sequence[Sample], features: FeatureSource) -> Judge:
    """By pointing where any phrase has a box, else by pairing."""
    boxed = any(phrase.boxes for sample in samples for caption in sample.captions for phrase in caption.phrases)
    return Pointing(samples, features) if boxed else Pairing(samples, features)


def _read(features: FeatureSource, rows: Sequence[int], size: int) -> Iterator[MapBatch]:
    batches = features.read(rows[i : i + size] for i in range(0, len(rows), size))
    return (batch for batch in batches if batch.rows)


def _share(ranks: Ranks, hits: int, tries: int, stopped: Callable[[], bool]) -> float:
    everyone = ranks.gather((hits, tries, stopped()))
    if any(stop for *_, stop in everyone):
        raise Interrupted("interrupted during validation")
    return sum(hits for hits, *_ in everyone) / max(1, sum(tries for _, tries, _ in everyone))
