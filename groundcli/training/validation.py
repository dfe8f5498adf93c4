"""How good a model is on images that it doesn't learn from: what chooses the best epoch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from groundcli.data import Sample
from groundcli.data.phrases import tokenize
from groundcli.devices import autocast
from groundcli.errors import Interrupted
from groundcli.evaluation.metrics import pointing_hits, scored_phrases
from groundcli.grounder import Grounder
from groundcli.model.attention import pairwise_scores, word_pertinence
from groundcli.model.grounding_model import GroundingModel
from groundcli.options import Precision
from groundcli.parallel import Stopped
from groundcli.training.features import LiveFeatures, MapBatch
from groundcli.training.gradient import Ranks

BATCH = 8  # images at the grid of use
GROUP = 50  # images among which a caption has to find its own: fixed, so that numbers of different data compare


@dataclass
class Judge:
    """A measure of some images; more is better.

    Attributes:
        name: of what it measures, a key of JSON.
        title: the same for people.
    """

    samples: Sequence[Sample]
    features: LiveFeatures
    name: ClassVar[str]
    title: ClassVar[str]

    @torch.no_grad()
    def measure(self, model: GroundingModel, ranks: Ranks, precision: Precision, stopped: Stopped) -> float:
        """A fraction, of what all ranks find in their share of the images. Raises Interrupted."""
        model.eval()
        hits = tries = 0
        for more_hits, more_tries in self.counts(model, ranks, precision):
            hits, tries = hits + more_hits, tries + more_tries
            if stopped():
                break
        model.train()
        everyone = ranks.gather((hits, tries, stopped()))
        if any(stop for *_, stop in everyone):
            raise Interrupted("interrupted during validation")
        return sum(hits for hits, *_ in everyone) / max(1, sum(tries for _, tries, _ in everyone))

    def counts(self, model: GroundingModel, ranks: Ranks, precision: Precision) -> Iterator[tuple[int, int]]:
        """Hits and tries, batch by batch."""
        raise NotImplementedError

    def read(self, indices: Sequence[int]) -> Iterator[MapBatch]:
        """The feature maps of images, a few at a time."""
        batches = self.features.read(indices[i : i + BATCH] for i in range(0, len(indices), BATCH))
        return (batch for batch in batches if batch.indices)


class Pointing(Judge):
    """Pointing accuracy: the share of all phrases with a box whose point lies in one."""

    name = "pointing_accuracy"
    title = "validation pointing accuracy"

    def counts(self, model: GroundingModel, ranks: Ranks, precision: Precision) -> Iterator[tuple[int, int]]:
        """See `Judge`."""
        grounder = Grounder(model, model.backbone.mean.device, precision)
        for batch in self.read(ranks.share(self.features.indices)):
            hits: list[bool] = []
            images = grounder.encode_maps(batch.maps, batch.sizes)
            for index, size, image in zip(batch.indices, batch.sizes, images, strict=True):
                said = self.samples[index].captions
                captions = [replace(c, phrases=scored_phrases(c, size, "default")) for c in said]
                answers = grounder.ground_captions(image, captions, boxes=False)
                for caption, answer in zip(captions, answers, strict=True):
                    for phrase, grounded in zip(caption.phrases, answer.phrases, strict=True):
                        point = grounded.point or (math.nan, math.nan)
                        hits.append(bool(pointing_hits([point], phrase.boxes)[0]))
            yield sum(hits), len(hits)


class Pairing(Judge):
    """Recall of pairing, where nobody drew boxes: how often a caption finds its image among 50, and the image it."""

    name = "pairing_recall"
    title = "validation recall of pairing"

    def counts(self, model: GroundingModel, ranks: Ranks, precision: Precision) -> Iterator[tuple[int, int]]:
        """See `Judge`. The first caption of each image counts."""
        first = {index: self.samples[index].captions[0].text for index in self.features.indices}
        words = {index: [word.text for word in tokenize(text)] for index, text in first.items()}
        indices = [index for index in self.features.indices if words[index]]
        device, grid = model.backbone.mean.device, model.config.visual.grid
        for group in ranks.share([indices[i : i + GROUP] for i in range(0, len(indices), GROUP)]):
            batches = list(self.read(group))
            if not batches:
                continue
            with autocast(device, precision):
                text = model.encode_text([words[index] for batch in batches for index in batch.indices])
                both = torch.cat([model.word_mapping(text.words), model.sentence_mapping(text.sentences)], 1)
                maps = (pairwise_scores(model.visual_mapping(batch.maps, grid), both) for batch in batches)
                scores = torch.cat(list(maps)).mean(-1)  # (B, U + B)
            count = len(scores)
            fit = word_pertinence(scores[:, :-count][:, text.index], text.mask, model.config.loss.gamma1)  # (B, B)
            fit, same = fit + scores[:, -count:], torch.arange(count, device=device)
            yield int((fit.argmax(0) == same).sum() + (fit.argmax(1) == same).sum()), 2 * count


def judge_by(samples: Sequence[Sample], features: LiveFeatures) -> Judge:
    """By pointing where any phrase has a box, else by pairing."""
    boxed = any(phrase.boxes for sample in samples for caption in sample.captions for phrase in caption.phrases)
    return Pointing(samples, features) if boxed else Pairing(samples, features)
