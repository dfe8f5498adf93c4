"""ELMo: a character CNN and two layers of a bidirectional language model (Peters et al., NAACL 2018).

Equal to AllenNLP's on the published files, apart from one thing: no state is carried from one call to the next, so a
caption's vectors depend on that caption alone.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from groundcli.recipe import ElmoConfig

MAX_CHARACTERS = 50  # of a word, with its two markers
BEGIN_SENTENCE, END_SENTENCE = "<S>", "</S>"
BEGIN_WORD, END_WORD, PADDING = 258, 259, 260


def character_ids(word: str) -> list[int]:
    """A word's UTF-8 bytes, cut at 48, between its markers, padded to 50, all plus one (0 is no word).

    The sentence boundaries `<S>` and `</S>` are words of one marker each, as in AllenNLP.
    """
    marker = {BEGIN_SENTENCE: [256], END_SENTENCE: [257]}.get(word)
    ids = [BEGIN_WORD, *(marker or word.encode("utf-8", errors="ignore")[: MAX_CHARACTERS - 2]), END_WORD]
    return [i + 1 for i in ids + [PADDING] * (MAX_CHARACTERS - len(ids))]


class CharacterCnn(nn.Module):
    """Words' character ids -> word vectors."""

    def __init__(self, config: ElmoConfig):
        super().__init__()
        width = sum(n for _, n in config.filters)
        self.embedding = nn.Embedding(PADDING + 2, config.character_dim, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(config.character_dim, n, k) for k, n in config.filters)
        self.transforms = nn.ModuleList(nn.Linear(width, width) for _ in range(config.highways))
        self.carries = nn.ModuleList(nn.Linear(width, width) for _ in range(config.highways))
        self.projection = nn.Linear(width, config.projection)
        self.activation = getattr(torch, config.activation)
        for carry in self.carries:
            nn.init.constant_(carry.get_parameter("bias"), -2.0)  # at first, let the input through

    def forward(self, ids: Tensor) -> Tensor:
        """(W, L), L <= 50 -> (W, projection)."""
        characters = self.embedding(ids).transpose(1, 2)  # (W, character_dim, L)
        x = torch.cat([self.activation(conv(characters).amax(-1)) for conv in self.convolutions], dim=-1)
        for transform, carry in zip(self.transforms, self.carries, strict=True):
            gate = torch.sigmoid(carry(x))
            x = gate * torch.relu(transform(x)) + (1 - gate) * x
        return self.projection(x)


class _LateGradient(torch.autograd.Function):
    """Sums (2, N, Q) as they are, whose gradient is also the weight's, as if `inputs @ weight` were part of them.

    A recurrent weight meets a new input in every step. Left to autograd, each step would make a gradient as large as
    the weight, to be added up; here all inputs are kept, and one product gives the sum. The list of inputs, (2, n, K)
    per step, is filled by the steps that come after `apply`.
    """

    @staticmethod
    def forward(ctx: Any, sums: Tensor, weight: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        ctx.inputs = inputs
        return sums.view_as(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return gradient, torch.bmm(torch.cat(ctx.inputs, dim=1).mT, gradient), None


def _stepwise(sums: Tensor, weight: Tensor, sizes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """What gives `sums + inputs @ weight` step by step, (2, n, K) -> (2, n, Q), as inputs come; see _LateGradient."""
    all_inputs: list[Tensor] = []
    steps = iter(_LateGradient.apply(sums, weight, all_inputs).split(sizes, dim=1))

    def step(inputs: Tensor) -> Tensor:
        all_inputs.append(inputs.detach())
        return torch.baddbmm(next(steps), inputs, weight.detach())

    return step


class BiLstmLayer(nn.Module):
    """Both directions of an LSTM layer with clipped cells and clipped projections, side by side in one batch."""

    def __init__(self, config: ElmoConfig):
        super().__init__()
        p, h = config.projection, config.hidden
        self.clip = config.clip
        self.kernel = nn.Parameter(torch.empty(2, 2 * p, 4 * h))  # input above recurrent; gates i, j, f, o
        self.bias = nn.Parameter(torch.zeros(2, 1, 4 * h))
        self.projection = nn.Parameter(torch.empty(2, h, p))
        for weight in (self.kernel, self.projection):
            nn.init.uniform_(weight, -(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5)

    def forward(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """(2, N, P) -> the same: forward, and backward already reversed; step after step, each of `sizes` captions."""
        from_input, from_output = self.kernel.split(x.shape[2], dim=1)
        gates = _stepwise(torch.baddbmm(self.bias, x, from_input), from_output, sizes)
        project = _stepwise(torch.zeros_like(x), self.projection, sizes)
        h = x.new_zeros(2, sizes[0], x.shape[2])
        c = x.new_zeros(2, sizes[0], self.projection.shape[1])
        outputs = []
        for size in sizes:  # captions that have ended are left out
            i, j, f, o = gates(h[:, :size]).chunk(4, dim=-1)
            c = torch.sigmoid(f + 1) * c[:, :size] + torch.sigmoid(i) * torch.tanh(j)
            c = c.clamp(-self.clip, self.clip)
            h = project(torch.sigmoid(o) * torch.tanh(c)).clamp(-self.clip, self.clip)
            outputs.append(h)
        return torch.cat(outputs, dim=1)


class Elmo(nn.Module):
    """Tokenised captions -> the three layers of each word, and each LSTM layer's sentence vector; all of one width."""

    def __init__(self, config: ElmoConfig):
        super().__init__()
        self.config = config
        self.width = 2 * config.projection
        self.character_cnn = CharacterCnn(config)
        self.lstm = nn.ModuleList(BiLstmLayer(config) for _ in range(config.layers))

    def word_vectors(self, words: Sequence[str]) -> Tensor:
        """Words out of context -> (U, P)."""
        ids = torch.tensor([character_ids(word) for word in words])
        longest = int((ids <= PADDING).sum(1).max())
        ids = ids[:, : longest + max(width for width, _ in self.config.filters)]  # further on, all is padding
        return self.character_cnn(ids.to(self.character_cnn.projection.weight.device))

    def words(self, captions: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Words between sentence boundaries (C, T + 2, P), lengths with them (C); a word is computed once."""
        bounded = [[BEGIN_SENTENCE, *caption, END_SENTENCE] for caption in captions]
        index = {word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(bounded)))}
        places = pad_sequence([torch.tensor([index[w] for w in c]) for c in bounded], batch_first=True)
        vectors = self.word_vectors(list(index))
        return vectors[places.to(vectors.device)], torch.tensor([len(c) for c in bounded], device=vectors.device)

    def directions(
        self, tokens: Tensor, lengths: Tensor, dropout: Callable[[Tensor], Tensor] = lambda x: x
    ) -> tuple[list[Tensor], Tensor]:
        """The LSTM layers' outputs (2, C, T, P), the second direction reversed, and the reversing index (C, T)."""
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        reverse = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)  # its own inverse
        both = torch.stack([tokens, tokens.take_along_dim(reverse.unsqueeze(-1), 1)], dim=2)
        packed = pack_padded_sequence(both, lengths.cpu(), batch_first=True, enforce_sorted=False)
        x, sizes = packed.data.transpose(0, 1), packed.batch_sizes.tolist()
        layers: list[Tensor] = []
        for lstm in self.lstm:
            x = dropout(lstm(x, sizes) + x if layers else lstm(x, sizes))
            padded, _ = pad_packed_sequence(packed._replace(data=x.transpose(0, 1)), batch_first=True)
            layers.append(padded.permute(2, 0, 1, 3))
        return layers, reverse

    def layers(self, captions: Sequence[Sequence[str]]) -> tuple[list[Tensor], Tensor]:
        """The doubled words and the LSTM layers, with sentence boundaries, (C, T + 2, 2 P) each; and the mask."""
        tokens, lengths = self.words(captions)
        both, reverse = self.directions(tokens, lengths)
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        out = [torch.cat([tokens, tokens], -1) * mask.unsqueeze(-1)]
        order = reverse.unsqueeze(-1)
        return out + [torch.cat([forward, backward.take_along_dim(order, 1)], -1) for forward, backward in both], mask

    def forward(self, captions: Sequence[Sequence[str]]) -> tuple[list[Tensor], list[Tensor]]:
        """Layers of words, of all captions one after the other, and of sentences; see `without_boundaries`."""
        return without_boundaries(*self.layers(captions))


def without_boundaries(layers: Sequence[Tensor], mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Layers (C, T + 2, 2 P) and their mask (C, T + 2) -> layers of words (W, 2 P), of sentences (C, 2 P).

    A sentence, one per LSTM layer, is the backward state at the first word beside the forward state at the last.
    """
    lengths, half = mask.sum(1), layers[0].shape[-1] // 2
    inside = mask[:, 2:]  # the words' mask, as if they began at 0
    each = torch.arange(len(lengths), device=lengths.device)
    sentences = [torch.cat([x[:, 1, half:], x[each, lengths - 2, :half]], -1) for x in layers[1:]]
    return [layer[:, 1:-1][inside] for layer in layers], sentences
