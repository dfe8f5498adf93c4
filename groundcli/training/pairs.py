"""Which image meets which caption in which step."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice

import torch
from torch import Tensor

from groundcli.data.sample import Sample
from groundcli.data.words import content_key, tokenize
from groundcli.training.features import FeatureSource, MapBatch
from groundcli.training.ranks import Ranks

SIDED = re.compile(r"\b(left|right)")


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

    def __init__(self, samples: Sequence[Sample], weights: Sequence[float], features: FeatureSource):
        """Tokenises; `weights` are how often an epoch each image is seen."""
        self.features = features
        self.names = [sample.name for sample in samples]
        self.captions: dict[int, list[list[str]]] = {}  # by row
        for row in features.rows:
            tokenised = [[word.text for word in tokenize(caption.text)] for caption in samples[row].captions]
            if any(tokenised):
                self.captions[row] = [words for words in tokenised if words]
        self.rows = list(self.captions)
        self.sets: dict[float, list[int]] = defaultdict(list)  # rows of one weight
        for row in self.rows:
            self.sets[weights[row]].append(row)
        self.content = {row: {content_key(w) for c in cs for w in c} - {""} for row, cs in self.captions.items()}

    @property
    def vocabulary(self) -> set[str]:
        """What the captions' words share with their other forms."""
        return set().union(*self.content.values())

    @property
    def digest(self) -> str:
        """Hash of all names, captions and unequal weights: only the same pairs are gone on with."""
        pairs: list[object] = [(self.names[row], captions) for row, captions in self.captions.items()]
        pairs += [(weight, rows) for weight, rows in self.sets.items() if weight != 1]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()

    @property
    def drawn(self) -> int:
        """Pairs of an epoch, those of an incomplete last batch included."""
        return sum(round(weight * len(rows)) for weight, rows in self.sets.items())

    def _mirrored(self, draw: torch.Generator) -> set[int]:
        """Half of the rows whose captions don't tell left from right."""
        coins = torch.rand(len(self.rows), generator=draw).tolist()
        even = (row for row, cs in self.captions.items() if not any(SIDED.search(w.lower()) for c in cs for w in c))
        return {row for row, x in zip(even, coins, strict=False) if x < 0.5}

    def _order(self, draw: torch.Generator) -> list[int]:
        """Rows of an epoch: those of each set in a random order, again and again until its weight is reached."""
        own = []
        for weight, rows in self.sets.items():
            order = [rows[i] for i in torch.randperm(len(rows), generator=draw).tolist()]
            own.append(list(islice(cycle(order), round(weight * len(rows)))))
        if len(own) == 1:
            return own[0]
        sets = [i for i, rows in enumerate(own) for _ in rows]
        left = [iter(rows) for rows in own]
        return [next(left[sets[i]]) for i in torch.randperm(len(sets), generator=draw).tolist()]

    def batches(
        self, size: int, seed: int, epoch: int, first: int, ranks: Ranks, parts: int = 1, mirror: bool = False
    ) -> Iterator[Batch]:
        """An epoch: every image as often as its weight says, in random order, each time with one of its captions.

        The incomplete last batch is left out. Images that can't be decoded, and one that comes twice in a batch, leave
        it smaller.

        Args:
            size: pairs a batch.
            seed, epoch: what order and captions depend on, and nothing else.
            first: the batch to begin with.
            ranks: who computes the maps of the other images.
            parts: of this rank's images.
            mirror: half of the images, but never one with a caption that tells left from right.
        """
        draw = torch.Generator().manual_seed(seed * 1000 + epoch)
        order = self._order(draw)
        drawn = torch.rand(len(order), generator=draw).tolist()
        pairs = [
            (row, self.captions[row][int(x * len(self.captions[row]))]) for row, x in zip(order, drawn, strict=True)
        ]
        groups = [dict(pairs[i : i + size]) for i in range(0, len(pairs) - size + 1, size)][first:]
        split = [
            [part.share(ranks.share(list(group))) for part in (Ranks(i, parts) for i in range(parts))]
            for group in groups
        ]
        mirrored = self._mirrored(draw) if mirror else ()
        maps = self.features.read(chain.from_iterable(split), mirrored)
        for caption in groups:
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
