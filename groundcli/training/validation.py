"""How good a model is on images that it doesn't learn from: what chooses the best epoch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from groundcli.data import Sample
from groundcli.data.phrases import tokenize
from groundcli.devices import TorchRuntime, autocast
from groundcli.errors import Interrupted
from groundcli.evaluation.metrics import pointing_hits, scored_phrases
from groundcli.grounder import EncodedImage, Grounder
from groundcli.model.attention import pairwise_scores, word_pertinence
from groundcli.model.grounding_model import GroundingModel
from groundcli.options import Precision
from groundcli.parallel import Stopped
from groundcli.training.features import LiveFeatures, MapBatch
from groundcli.training.gradient import Ranks

BATCH = 8  # images at the grid of use
GROUP = 50  # images among which a caption has to find its own: fixed, so that numbers of different data compare
CAPTIONS = 5  # of an image that are asked about


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
        hits = tries = 0.0
        for more_hits, more_tries in self.counts(model, ranks, precision):
            hits, tries = hits + more_hits, tries + more_tries
            if stopped():
                break
        model.train()
        everyone = ranks.gather((hits, tries, stopped()))
        if any(stop for *_, stop in everyone):
            raise Interrupted("interrupted during validation")
        return sum(hits for hits, *_ in everyone) / max(1, sum(tries for _, tries, _ in everyone))

    def counts(self, model: GroundingModel, ranks: Ranks, precision: Precision) -> Iterator[tuple[float, float]]:
        """Hits, or how probable they are, and tries, batch by batch."""
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
        runtime = TorchRuntime(model, model.backbone.mean.device, precision)
        grounder = Grounder(runtime)
        for batch in self.read(ranks.share(self.features.indices)):
            hits: list[bool] = []
            cells = runtime.map_cells(batch.maps)
            for index, size, each in zip(batch.indices, batch.sizes, cells, strict=True):
                said = self.samples[index].captions
                captions = [replace(c, phrases=scored_phrases(c, size, "default")) for c in said]
                answers = grounder.ground_captions(EncodedImage(size, each), captions, boxes=False)
                for caption, answer in zip(captions, answers, strict=True):
                    for phrase, grounded in zip(caption.phrases, answer.phrases, strict=True):
                        point = grounded.point or (math.nan, math.nan)
                        hits.append(bool(pointing_hits([point], phrase.boxes)[0]))
            yield sum(hits), len(hits)


class Pairing(Judge):
    """Where nobody drew boxes: how probable the model thinks it that a caption's own image, among 50, is its own.

    A probability, as counts of captions that find their image are the same for epoch after epoch.
    """

    name = "pairing_probability"
    title = "validation probability of the right image"

    def counts(self, model: GroundingModel, ranks: Ranks, precision: Precision) -> Iterator[tuple[float, float]]:
        """See `Judge`. The first captions of each image count."""
        words: dict[int, list[list[str]]] = {}
        for index in self.features.indices:
            tokenised = ([word.text for word in tokenize(c.text)] for c in self.samples[index].captions[:CAPTIONS])
            words[index] = [caption for caption in tokenised if caption]
        indices = [index for index in self.features.indices if words[index]]
        device, grid, loss = model.backbone.mean.device, model.config.visual.grid, model.config.loss
        for group in ranks.share([indices[i : i + GROUP] for i in range(0, len(indices), GROUP)]):
            batches = list(self.read(group))
            if not batches:
                continue
            spoken = [words[index] for batch in batches for index in batch.indices]
            own = torch.tensor([row for row, captions in enumerate(spoken) for _ in captions], device=device)  # (C)
            with autocast(device, precision):
                text = model.encode_text([caption for captions in spoken for caption in captions])
                both = torch.cat([model.word_mapping(text.words), model.sentence_mapping(text.sentences)], 1)
                maps = (pairwise_scores(model.visual_mapping(batch.maps, grid), both) for batch in batches)
                scores = torch.cat(list(maps)).float().mean(-1)  # (B, U + C)
            count = len(own)
            fit = word_pertinence(scores[:, :-count][:, text.index], text.mask, loss.gamma1) + scores[:, -count:]
            right = (loss.gamma2 * fit).softmax(0)[own, torch.arange(count, device=device)]  # of (B, C)
            yield float(right.sum()), count


def judge_by(samples: Sequence[Sample], features: LiveFeatures) -> Judge:
    """By pointing where any phrase has a box, else by pairing."""
    boxed = any(phrase.boxes for sample in samples for caption in sample.captions for phrase in caption.phrases)
    return Pointing(samples, features) if boxed else Pairing(samples, features)
