"""The textual half: layers of frozen text encoders, mixed and mapped into the common space (paper, section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from groundcli.recipe import ElmoConfig, TextConfig


@dataclass(frozen=True)
class TextFeatures:
    """What frozen text encoders say of C captions, with U different words among them.

    A word out of context is the same wherever it stands, and is kept once; a word in context is one of its own.

    Attributes:
        tokens: the U words.
        words: one (U, E_k) per layer.
        sentences: one (C, E_k) per layer.
        index: (C, T) int64, which of the U words stands at each place; 0 at padding.
        mask: (C, T) bool, false at padding.
    """

    tokens: list[str]
    words: list[Tensor]
    sentences: list[Tensor]
    index: Tensor
    mask: Tensor


class WordPieces(nn.Module):
    """Vectors of words out of context: the mean of their word pieces in a pretrained table.

    Args:
        table: (V, E), one vector per piece.
        pieces: the V pieces, in the table's order, continuations marked with ##; matched in lower case.
    """

    def __init__(self, table: Tensor, pieces: Sequence[str]):
        super().__init__()
        self.table = nn.Parameter(table, requires_grad=False)
        self.width: int = table.shape[1]
        self.unknown = pieces.index("[UNK]")
        self.tokenizer = BertWordPieceTokenizer({piece: i for i, piece in enumerate(pieces)}, lowercase=True)

    def forward(self, words: Sequence[str]) -> Tensor:
        """Words -> (U, E)."""
        encodings = self.tokenizer.encode_batch(list(words), add_special_tokens=False)
        pieces = [encoding.ids or [self.unknown] for encoding in encodings]
        offsets = torch.tensor([0, *map(len, pieces)], device=self.table.device).cumsum(0)[:-1]
        ids = torch.tensor([i for word in pieces for i in word], device=self.table.device)
        return F.embedding_bag(ids, self.table, offsets, mode="mean").float()


class ContextEncoder(Protocol):
    """An ELMo, whoever's code runs it; see `groundcli.model.elmo.Elmo`."""

    config: ElmoConfig
    width: int

    def __call__(self, captions: Sequence[Sequence[str]]) -> tuple[list[Tensor], list[Tensor]]:
        """Layers of words and of sentences, without boundaries."""

    def word_vectors(self, words: Sequence[str]) -> Tensor:
        """Words out of context."""


class Characters(nn.Module):
    """Vectors of words out of context: the character layer of an ELMo."""

    def __init__(self, elmo: ContextEncoder):
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

    def __init__(self, elmo: ContextEncoder | None, tables: Sequence[WordPieces | Characters]):
        super().__init__()
        self.elmo = elmo
        self.tables = nn.ModuleList(tables)
        tables_widths = [table.width for table in tables]
        elmo_widths = [elmo.width] * (elmo.config.layers + 1) if elmo else []
        self.word_widths: list[int] = elmo_widths + tables_widths
        self.sentence_widths: list[int] = elmo_widths[1:] + tables_widths
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "TextEncoders":
        """Frozen: always behaves as in evaluation."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, captions: Sequence[Sequence[str]]) -> TextFeatures:
        """Captions of at least one word each, equal ones computed once. A table's sentence is the mean of its words."""
        once = {caption: i for i, caption in enumerate(dict.fromkeys(map(tuple, captions)))}
        text = self._encode(list(once))
        if len(once) == len(captions):
            return text
        which = torch.tensor([once[tuple(caption)] for caption in captions], device=text.index.device)
        sentences = [layer[which] for layer in text.sentences]
        return replace(text, sentences=sentences, index=text.index[which], mask=text.mask[which])

    def _encode(self, captions: Sequence[Sequence[str]]) -> TextFeatures:
        device = next(self.parameters()).device
        distinct = {word: i for i, word in enumerate(dict.fromkeys(w for c in captions for w in c))}
        places = [torch.tensor([distinct[w] for w in c], device=device) for c in captions]
        index = nn.utils.rnn.pad_sequence(places, batch_first=True)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(p, dtype=torch.bool) for p in places], batch_first=True)
        tokens = list(distinct)
        words = [table(tokens) for table in self.tables]
        sentences = [torch.stack([layer[p].mean(0) for p in places]) for layer in words]
        if self.elmo:
            elmo_words, elmo_sentences = self.elmo(captions)
            words = elmo_words + [layer[index[mask]] for layer in words]
            sentences = elmo_sentences + sentences
            tokens = [word for caption in captions for word in caption]
            index = places_in_order(mask)
        return TextFeatures(tokens, words, sentences, index, mask)


class BiLstm(nn.Module):
    """Words in context, where no ELMo gives it: a biLSTM over words out of context, trained with the mappings.

    Attributes:
        word_widths, sentence_widths: width of each layer of words, and of the sentence.
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
        for out in mapping:
            linear = nn.Linear(width, out)
            nn.init.kaiming_normal_(linear.weight, a=0.25)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.LeakyReLU(0.25)]
            width = out
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
