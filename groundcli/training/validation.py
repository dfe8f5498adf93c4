"""How good a model is on images that it doesn't learn from: what chooses the best epoch."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from groundcli.data import Sample
from groundcli.devices import TorchRuntime, autocast
from groundcli.errors import Interrupted
from groundcli.evaluation.metrics import pointing_hits, scored_phrases
from groundcli.grounder import EncodedImage, Grounder
from groundcli.model.attention import pairwise_scores, word_pertinence
from groundcli.model.grounding_model import GroundingModel
from groundcli.options import Precision
from groundcli.parallel import Stopped
from groundcli.training.data import spoken
from groundcli.training.features import LiveFeatures, MapBatch
from groundcli.training.gradient import Ranks

BATCH = 8  # images at the grid of use
GROUP = 50  # images among which a caption has to find its own: fixed, so that numbers of different data compare
CAPTIONS = 5  # of an image that are asked about
Counts = Iterator[tuple[float, float]]  # hits, or how probable they are, and tries, batch by batch


@dataclass(frozen=True)
class Judge:
    """A measure of some images; more is better."""

    samples: Sequence[Sample]
    features: LiveFeatures
    name: str  # of what it measures, a key of JSON
    title: str  # the same for people
    counts: Callable[["Judge", GroundingModel, Ranks, Precision], Counts]  # of a rank's share of the images

    @torch.no_grad()
    def measure(self, model: GroundingModel, ranks: Ranks, precision: Precision, stopped: Stopped) -> float:
        """A fraction, of what all ranks find in their share of the images. Raises Interrupted."""
        model.eval()
        hits = tries = 0.0
        for more_hits, more_tries in self.counts(self, model, ranks, precision):
            hits, tries = hits + more_hits, tries + more_tries
            if stopped():
                break
        model.train()
        everyone = ranks.gather((hits, tries, stopped()))
        if any(stop for *_, stop in everyone):
            raise Interrupted("interrupted during validation")
        return sum(hits for hits, *_ in everyone) / max(1, sum(tries for _, tries, _ in everyone))

    def read(self, indices: Sequence[int]) -> Iterator[MapBatch]:
        """The feature maps of images, a few at a time."""
        batches = self.features.read(indices[i : i + BATCH] for i in range(0, len(indices), BATCH))
        return (batch for batch in batches if batch.indices)


def judge_by(samples: Sequence[Sample], features: LiveFeatures) -> Judge:
    """By pointing where any phrase has a box, else by pairing."""
    if any(phrase.boxes for sample in samples for caption in sample.captions for phrase in caption.phrases):
        return Judge(samples, features, "pointing_accuracy", "validation pointing accuracy", _pointing)
    return Judge(samples, features, "pairing_probability", "validation probability of the right image", _pairing)


def _pointing(judge: Judge, model: GroundingModel, ranks: Ranks, precision: Precision) -> Counts:
    """Pointing accuracy: the share of all phrases with a box whose point lies in one."""
    runtime = TorchRuntime(model, model.backbone.mean.device, precision)
    grounder = Grounder(runtime)
    for batch in judge.read(ranks.share(judge.features.indices)):
        hits: list[bool] = []
        cells = runtime.map_cells(batch.maps)
        for index, size, each in zip(batch.indices, batch.sizes, cells, strict=True):
            said = judge.samples[index].captions
            captions = [replace(c, phrases=scored_phrases(c, size, "default")) for c in said]
            answers = grounder.ground_captions(EncodedImage(size, each), captions, boxes=False)
            for caption, answer in zip(captions, answers, strict=True):
                for phrase, grounded in zip(caption.phrases, answer.phrases, strict=True):
                    point = grounded.point or (math.nan, math.nan)
                    hits.append(bool(pointing_hits([point], phrase.boxes)[0]))
        yield sum(hits), len(hits)


def _pairing(judge: Judge, model: GroundingModel, ranks: Ranks, precision: Precision) -> Counts:
    """Where nobody drew boxes: how probable the model thinks it that a caption's own image, among 50, is its own.

    A probability, as counts of captions that find their image are the same for epoch after epoch. The first captions of
    each image count.
    """
    words = {index: spoken(judge.samples[index].captions[:CAPTIONS]) for index in judge.features.indices}
    indices = [index for index, captions in words.items() if captions]
    device, grid, loss = model.backbone.mean.device, model.config.visual.grid, model.config.loss
    for group in ranks.share([indices[i : i + GROUP] for i in range(0, len(indices), GROUP)]):
        batches = list(judge.read(group))
        if not batches:
            continue
        said = [words[index] for batch in batches for index in batch.indices]
        own = torch.tensor([row for row, captions in enumerate(said) for _ in captions], device=device)  # (C)
        with autocast(device, precision):
            text, both = model.map_text([caption for captions in said for caption in captions])
            maps = (pairwise_scores(model.visual_mapping(batch.maps, grid), both) for batch in batches)
            scores = torch.cat(list(maps)).float().mean(-1)  # (B, U + C)
        count = len(own)
        fit = word_pertinence(scores[:, :-count][:, text.index], text.mask, loss.gamma1) + scores[:, -count:]
        right = (loss.gamma2 * fit).softmax(0)[own, torch.arange(count, device=device)]  # of (B, C)
        yield float(right.sum()), count
