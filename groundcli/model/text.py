"""The textual half: layers of frozen text encoders, mixed and mapped into the common space (paper, section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from groundcli.model import piece_cutter
from groundcli.recipe import TextConfig


@dataclass(frozen=True)
class TextFeatures:
    """What frozen text encoders say of C captions, with U different words among them.

    A word out of context is the same wherever it stands, and is kept once; a word in context is one of its own.
    """

    tokens: list[str]  # the U words
    words: list[Tensor]  # one (U, E_k) per layer
    sentences: list[Tensor]  # one (C, E_k) per layer
    index: Tensor  # (C, T) int64, which of the U words stands at each place; 0 at padding
    mask: Tensor  # (C, T) bool, false at padding


class WordPieces(nn.Module):
    """Vectors of words out of context: the mean of their pieces (see `piece_cutter`) in a pretrained table (V, E)."""

    def __init__(self, table: Tensor, pieces: Sequence[str]):
        super().__init__()
        self.table = nn.Parameter(table, requires_grad=False)
        self.width: int = table.shape[1]
        self.pieces, self.cut = pieces, piece_cutter(pieces)

    def forward(self, words: Sequence[str]) -> Tensor:
        """Words -> (U, E)."""
        pieces = self.cut(words)
        offsets = torch.tensor([0, *map(len, pieces)], device=self.table.device).cumsum(0)[:-1]
        ids = torch.tensor([*chain.from_iterable(pieces)], device=self.table.device)
        return F.embedding_bag(ids, self.table, offsets, mode="mean").float()


class Characters(nn.Module):
    """Vectors of words out of context: the character layer of an ELMo, by groundcli's code or AllenNLP's."""

    def __init__(self, elmo: Any):
        super().__init__()
        self.elmo = elmo
        self.width: int = elmo.config.projection

    def forward(self, words: Sequence[str]) -> Tensor:
        """Words -> (U, E)."""
        return self.elmo.word_vectors(words)


class TextEncoders(nn.Module):
    """Frozen encoders side by side: the layers of an ELMo, if there is one, and those of words out of context.

    Attributes:
        word_widths, sentence_widths: width of each layer of words, and of the sentence.
    """

    def __init__(self, elmo: Any, tables: Sequence[WordPieces | Characters]):
        """The ELMo is a `groundcli.model.elmo.Elmo`, AllenNLP's with the same methods, or None."""
        super().__init__()
        self.elmo = elmo
        self.tables = nn.ModuleList(tables)
        widths = [table.width for table in tables]
        elmo_widths = [elmo.width] * (elmo.config.layers + 1) if elmo else []
        self.word_widths: list[int] = elmo_widths + widths
        self.sentence_widths: list[int] = elmo_widths[1:] + widths
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "TextEncoders":
        """Frozen: always behaves as in evaluation."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, captions: Sequence[Sequence[str]]) -> TextFeatures:
        """Captions of at least one word each, equal ones computed once. A table's sentence is the mean of its words."""
        device = next(self.parameters()).device
        once = {caption: i for i, caption in enumerate(dict.fromkeys(map(tuple, captions)))}
        distinct = {word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(once)))}
        places = [torch.tensor([distinct[word] for word in caption], device=device) for caption in once]
        index = pad_sequence(places, batch_first=True)
        mask = pad_sequence([torch.ones_like(p, dtype=torch.bool) for p in places], batch_first=True)
        tokens = list(distinct)
        words = [table(tokens) for table in self.tables]
        sentences = [torch.stack([layer[p].mean(0) for p in places]) for layer in words]
        if self.elmo:
            elmo_words, elmo_sentences = self.elmo(list(once))
            words = elmo_words + [layer[index[mask]] for layer in words]
            sentences = elmo_sentences + sentences
            tokens = [*chain.from_iterable(once)]
            index = places_in_order(mask)
        which = torch.tensor([once[tuple(caption)] for caption in captions], device=device)
        return TextFeatures(tokens, words, [layer[which] for layer in sentences], index[which], mask[which])


class BiLstm(nn.Module):
    """Words in context, where no ELMo gives it: a biLSTM over words out of context, trained with the mappings.

    Its widths are as those of `TextEncoders`.
    """

    def __init__(self, widths: Sequence[int], cells: int):
        super().__init__()
        self.lstm = nn.LSTM(sum(widths), cells, batch_first=True, bidirectional=True)
        self.word_widths = [*(2 * width for width in widths), 2 * cells]
        self.sentence_widths = [2 * cells]

    def forward(self, text: TextFeatures) -> TextFeatures:
        """Words out of context -> the same words, doubled, beside the biLSTM's output.

        The sentence is, as an ELMo's, the backward state at the first word beside the forward state at the last.
        """
        words, lengths = torch.cat(text.words, -1)[text.index], text.mask.sum(1)
        packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
        context, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)  # (C, T, 2 H)
        forward, backward = context.chunk(2, dim=-1)
        each = torch.arange(len(lengths), device=lengths.device)
        sentence = torch.cat([backward[:, 0], forward[each, lengths - 1]], -1)
        places = text.index[text.mask]
        doubled = [torch.cat([layer, layer], -1)[places] for layer in text.words]
        tokens = [text.tokens[place] for place in places.tolist()]
        return TextFeatures(tokens, [*doubled, context[text.mask]], [sentence], places_in_order(text.mask), text.mask)


def places_in_order(mask: Tensor) -> Tensor:
    """(C, T) bool -> (C, T) int64: places counted one caption after the other, 0 at padding."""
    return (mask.flatten().cumsum(0).view_as(mask) - 1) * mask


class LayerMix(nn.Module):
    """A learned sum of layers: weights of a softmax for words, free weights for sentences (no bias)."""

    def __init__(self, widths: Sequence[int], width: int, softmax: bool):
        super().__init__()
        self.softmax = softmax
        self.weights = nn.Parameter(torch.full((len(widths),), 0.0 if softmax else 1 / len(widths)))
        self.adapters = nn.ModuleList(nn.Identity() if w == width else nn.Linear(w, width, bias=False) for w in widths)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Layers (..., E_k) -> (..., E)."""
        weights = self.weights.softmax(0) if self.softmax else self.weights
        return torch.stack([w * f(x) for w, f, x in zip(weights, self.adapters, layers, strict=True)]).sum(0)


class TextMapping(nn.Module):
    """Mixed layers -> fully connected layers, each followed by LeakyReLU(0.25) -> length one."""

    def __init__(self, widths: Sequence[int], width: int, mapping: Sequence[int], softmax: bool):
        super().__init__()
        self.mix = LayerMix(widths, width, softmax)
        layers: list[nn.Module] = []
        for given, out in pairwise([width, *mapping]):
            linear = nn.Linear(given, out)
            nn.init.kaiming_normal_(linear.weight, a=0.25)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.LeakyReLU(0.25)]
        self.layers = nn.Sequential(*layers)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Layers (..., E_k) -> (..., D)."""
        return F.normalize(self.layers(self.mix(layers)).float(), dim=-1)


class TextMappings(nn.Module):
    """One mapping for all levels, or as many as there are levels."""

    def __init__(self, copies: int, widths: Sequence[int], config: TextConfig, softmax: bool):
        super().__init__()
        self.copies = nn.ModuleList(TextMapping(widths, config.width, config.mapping, softmax) for _ in range(copies))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Layers (U, E_k) -> (K, U, D), length one."""
        return torch.stack([mapping(layers) for mapping in self.copies])
