"""The whole model: a frozen backbone and frozen text encoders, mapped into one space."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundcli.model.attention import attend, average_levels, best_level, contrasted
from groundcli.model.extent import Extent, look
from groundcli.model.presence import Presence
from groundcli.model.text import BiLstm, TextEncoders, TextFeatures, TextMappings
from groundcli.model.visual import Backbone, VisualMapping
from groundcli.recipe import ModelConfig

Part = TypeVar("Part", Presence, Extent)


class WordHeat(NamedTuple):
    """Where the T words of a caption are in one image."""

    heat: Tensor  # (T, N)
    scores: Tensor  # (T)
    levels: Tensor  # (T) int64, of each word's best level
    top: Tensor  # (T), the highest heat of the levels' average as cosines, also where `fusion` is `peaks`


class GroundingModel(nn.Module):
    """Image and caption into one space, and from there to heat maps.

    Attributes:
        presence: what tells whether a word is in an image at all, where it was learned.
        extent: what tells how far a phrase's thing reaches, where it was fitted.
    """

    def __init__(self, config: ModelConfig, backbone: Backbone, text: TextEncoders):
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.text = text
        self.visual_mapping = VisualMapping(backbone.channels, config.visual)
        self.context = BiLstm(text.word_widths, config.text.bilstm) if config.text.bilstm else None
        words = self.context or text
        copies = len(backbone.channels) if config.text.per_level else 1
        self.word_mapping = TextMappings(copies, words.word_widths, config.text, softmax=True)
        self.sentence_mapping = TextMappings(copies, words.sentence_widths, config.text, softmax=False)
        self.presence: Presence | None = None
        self.extent: Extent | None = None

    def trained(self) -> dict[str, Tensor]:
        """What training changes: every tensor but those of the frozen backbone and text encoders."""
        tuned = tuple(f"backbone.extractor.{stage}." for stage in self.config.visual.tuned)
        frozen = ("backbone.", "text.")
        return {k: t for k, t in self.state_dict().items() if not k.startswith(frozen) or k.startswith(tuned)}

    def load_trained(self, tensors: Mapping[str, Tensor]) -> None:
        """Undoes `trained`. Raises RuntimeError, naming the tensors, where they aren't this model's."""
        if any(name.startswith("presence.") for name in tensors):
            self.presence = self.part(Presence)
        if any(name.startswith("extent.") for name in tensors):
            self.extent = self.part(Extent)
        missing, unexpected = self.trained().keys() - tensors.keys(), tensors.keys() - self.trained().keys()
        if missing or unexpected:
            raise RuntimeError(f"missing {sorted(missing)}, unexpected {sorted(unexpected)}")
        self.load_state_dict(tensors, strict=False)

    def part(self, kind: type[Part]) -> Part:
        """A new part of a kind, of this model's shapes, frozen, where the model is."""
        levels, copies = len(self.visual_mapping.stacks), len(self.word_mapping.copies)
        return kind(levels, copies, self.config.text.mapping[-1]).requires_grad_(False).to(self.backbone.mean.device)

    def encode_text(self, captions: Sequence[Sequence[str]]) -> TextFeatures:
        """Tokenised captions, of at least one word each, in context where the recipe has any; always in float32."""
        with torch.autocast(self.backbone.mean.device.type, enabled=False):
            text = self.text(captions)
            return self.context(text) if self.context else text

    def map_text(self, captions: Sequence[Sequence[str]]) -> tuple[TextFeatures, Tensor]:
        """C tokenised captions as encoded, and their words, then their sentences, in one (K, U + C, D), length one."""
        text = self.encode_text(captions)
        return text, torch.cat([self.word_mapping(text.words), self.sentence_mapping(text.sentences)], dim=1)

    @torch.no_grad()
    def map_words(self, captions: Sequence[Sequence[str]]) -> list[list[Tensor]]:
        """Tokenised captions -> of each its words (K, D), length one; a word that is the same twice is one tensor."""
        text = self.encode_text(captions)
        s, index = self.word_mapping(text.words).unbind(1), text.index.tolist()
        return [[s[i] for i in row[:count]] for row, count in zip(index, text.mask.sum(1).tolist(), strict=True)]

    @torch.no_grad()
    def ground_words(self, v: Tensor, s: Tensor) -> WordHeat:
        """Words (K, T, D) on one image's cells (L, N, D)."""
        heat, level_scores = (one[0] for one in attend(v.unsqueeze(0), s.unsqueeze(0)))
        if self.config.fusion == "best":
            fused, scores, levels = best_level(heat, level_scores)
            return WordHeat(fused, scores, levels, fused.amax(-1))
        weights = torch.tensor(self.config.level_weights or (1.0,) * v.shape[0], device=v.device)
        fused, scores, levels = average_levels(heat, level_scores, weights)
        top = fused.amax(-1)
        if self.config.fusion == "peaks":
            fused, *_ = average_levels(heat / heat.amax(-1, keepdim=True).clamp_min(1e-6), level_scores, weights)
        return WordHeat(fused, scores, levels, top)

    @torch.no_grad()
    def ground_phrases(
        self, v: Tensor, s: Tensor, words: WordHeat, member: Tensor, naming: Tensor, last: Tensor, boxed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Phrases of one image, all at once.

        Args:
            v: cells (L, N, D).
            s: words (K, W, D).
            words: what `ground_words` gave of them.
            member: of P phrases (P, W), 1 for each of its words.
            naming: (P, W), the share of each of its words that names something.
            last: (P) int64, the last of those, its head for the most part.
            boxed: (Q) int64, the phrases whose extents are wanted.

        Returns:
            Heat maps (P, M, M); the score of each phrase's best word (P), 0 for a phrase without words, and that
            word's level (P) int64; what speaks for the phrase's presence (P, E), E = 0 where none was learned; and how
            likely the thing's box covers each cell, (P, M, M), 0 for phrases that aren't `boxed`; (P, 0, M) where no
            extent was fitted.
        """
        # One matrix product averages the heat of each phrase's words, weighted by their scores. (P, W) @ (W, N)
        weights = member * words.scores
        means = weights @ words.heat.float() / weights.sum(1, keepdim=True).clamp_min(1e-12)
        best, word = weights.max(1)
        side = self.config.visual.grid
        maps = self.spread(v, means).view(-1, side, side)
        if self.config.smooth:  # the mean of 3 x 3 cells, borders repeated: of rows, and of columns
            each = torch.eye(side, device=maps.device).unsqueeze(0)
            three = F.avg_pool1d(F.pad(each, (1, 1), mode="replicate"), 3, 1)
            maps = three.mT @ maps @ three
        chosen = torch.where(member.amax(1) > 0, words.levels[word], 0)
        evidence, extents = member[:, :0], maps[:, :0]
        if self.presence:
            said = self.presence(v, s, words.scores, words.top)  # (W, E)
            evidence = torch.cat([said[last], naming @ said], dim=1)
        if self.extent:
            seen = look(v, naming[boxed] @ s.float(), maps[boxed], best[boxed])
            extents = torch.zeros_like(maps).index_copy(0, boxed, self.extent(*seen).unflatten(1, (side, side)))
        return maps, best, chosen, evidence, extents

    @torch.no_grad()
    def spread(self, v: Tensor, heat: Tensor) -> Tensor:
        """Heat (P, N) on one image's cells (L, N, D) -> each cell's mean over all cells, as far as they look like it.

        Two cells are alike by the cosine of what is in them beside the image's mean, averaged over the levels, to the
        power `spread` of the recipe: heat fills the thing that it lies on, and ends at its edges.
        """
        if not self.config.spread:
            return heat
        # (N, L D): one product sums over the levels too. Cells are as like each other both ways, so of the four
        # quarters of all with all, the work of this function, three are enough.
        a, b = contrasted(v).transpose(0, 1).flatten(1).tensor_split(2)
        aa, ab, bb = ((x @ y.T / len(v)).relu() ** self.config.spread for x, y in ((a, a), (a, b), (b, b)))
        ones = torch.ones(1, heat.shape[1], device=heat.device)  # which add up weights
        given = torch.cat([heat.float(), ones])
        of_a, of_b = given.tensor_split([len(a)], dim=1)
        sums = torch.cat([of_a @ aa + of_b @ ab.T, of_a @ ab + of_b @ bb], dim=1)  # (P + 1, N)
        return sums[:-1] / sums[-1].clamp_min(1e-12)
