"""Which image meets which caption in which step."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor

from groundcli.data.sample import Sample
from groundcli.data.words import content_key, tokenize
from groundcli.training.features import FeatureSource, MapBatch
from groundcli.training.ranks import Ranks


@dataclass(frozen=True)
class Batch:
    """The B pairs of a step, in one order for all ranks.

    Attributes:
        names: of the images.
        captions: tokenised, one an image.
        content: of each image, what all words of all its captions share with their other forms.
        parts: the feature maps of this rank's images, in order, to be taken one part after the other.
        by_rank: how many of the images each rank has.
    """

    names: list[str]
    captions: list[list[str]]
    content: list[set[str]]
    parts: list[MapBatch]
    by_rank: list[int]

    def present(self, words: Sequence[str]) -> Tensor:
        """(B, U) bool: whether any caption of the image has the word in some form; never for a stop word."""
        keys = [content_key(word) for word in words]
        return torch.tensor([[key in own for key in keys] for own in self.content])


class Pairs:
    """Images with their tokenised captions."""

    def __init__(self, samples: Sequence[Sample], features: FeatureSource):
        self.features = features
        self.names = [sample.name for sample in samples]
        self.captions: dict[int, list[list[str]]] = {}  # by row
        for row in features.rows:
            tokenised = [[word.text for word in tokenize(caption.text)] for caption in samples[row].captions]
            if any(tokenised):
                self.captions[row] = [words for words in tokenised if words]
        self.rows = list(self.captions)
        self.content = {row: {content_key(w) for c in cs for w in c} - {""} for row, cs in self.captions.items()}

    @property
    def vocabulary(self) -> set[str]:
        """What the captions' words share with their other forms."""
        return set().union(*self.content.values())

    @property
    def digest(self) -> str:
        """Hash of all names and captions: only the same pairs are gone on with."""
        pairs = [(self.names[row], captions) for row, captions in self.captions.items()]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()

    def batches(self, size: int, seed: int, epoch: int, first: int, ranks: Ranks, parts: int = 1) -> Iterator[Batch]:
        """An epoch: every image once, in random order, with one of its captions; the incomplete last batch is left.

        Images that can't be decoded leave their batch smaller.

        Args:
            size: pairs a batch.
            seed, epoch: what order and captions depend on, and nothing else.
            first: the batch to begin with.
            ranks: who computes the maps of the other images.
            parts: of this rank's images.
        """
        draw = torch.Generator().manual_seed(seed * 1000 + epoch)
        order = [self.rows[i] for i in torch.randperm(len(self.rows), generator=draw).tolist()]
        drawn = torch.rand(len(order), generator=draw).tolist()
        caption = {
            row: self.captions[row][int(x * len(self.captions[row]))] for row, x in zip(order, drawn, strict=True)
        }
        groups = [order[i : i + size] for i in range(0, len(order) - size + 1, size)][first:]
        split = [
            [part.share(ranks.share(group)) for part in (Ranks(i, parts) for i in range(parts))] for group in groups
        ]
        maps = self.features.read(chain.from_iterable(split))
        for _ in groups:
            own = list(islice(maps, parts))
            by_rank = ranks.gather([row for part in own for row in part.rows])
            rows = list(chain.from_iterable(by_rank))
            yield Batch(
                [self.names[row] for row in rows],
                [caption[row] for row in rows],
                [self.content[row] for row in rows],
                [part for part in own if part.rows],
                list(map(len, by_rank)),
            )
