"""The whole model: a frozen backbone and frozen text encoders, mapped into one space."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundcli.model.attention import attend, average_levels, best_level
from groundcli.model.extent import Extent, look
from groundcli.model.presence import Presence
from groundcli.model.text import BiLstm, TextEncoders, TextFeatures, TextMappings
from groundcli.model.visual import Backbone, VisualMapping
from groundcli.recipe import ModelConfig

Part = TypeVar("Part", Presence, Extent)


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

    def load_trained(self, tensors: dict[str, Tensor]) -> None:
        """Undoes `trained`. Raises RuntimeError, naming the tensors, where they aren't this model's."""
        self._make_parts(tensors)
        missing, unexpected = self.trained().keys() - tensors.keys(), tensors.keys() - self.trained().keys()
        if missing or unexpected:
            raise RuntimeError(f"missing {sorted(missing)}, unexpected {sorted(unexpected)}")
        self.load_state_dict({**self.state_dict(), **tensors})

    def _make_parts(self, tensors: Mapping[str, Tensor]) -> None:
        """Makes the parts that not every model has, where there are tensors of them."""
        if any(name.startswith("presence.") for name in tensors):
            self.presence = self.part(Presence)
        if any(name.startswith("extent.") for name in tensors):
            self.extent = self.part(Extent)

    def part(self, kind: type[Part]) -> Part:
        """A new part of a kind, of this model's shapes, frozen, where the model is."""
        levels, copies = len(self.visual_mapping.stacks), len(self.word_mapping.copies)
        return kind(levels, copies, self.config.text.mapping[-1]).requires_grad_(False).to(self.backbone.mean.device)

    def encode_text(self, captions: Sequence[Sequence[str]]) -> TextFeatures:
        """Tokenised captions, of at least one word each, in context where the recipe has any; always in float32."""
        with torch.autocast(self.backbone.mean.device.type, enabled=False):
            text = self.text(captions)
            return self.context(text) if self.context else text

    def forward(
        self, maps: Sequence[Tensor], captions: Sequence[Sequence[str]], grid: int
    ) -> tuple[Tensor, Tensor, Tensor, TextFeatures]:
        """B pairs in the common space, as the loss wants them.

        Args:
            maps: the backbone's feature maps, (B, C_l, H_l, W_l) per level.
            captions: B tokenised captions, of at least one word each.
            grid: cells per side that every level is resized to, M; N = M * M.

        Returns:
            Cells (B, L, N, D), words (K, U, D), sentences (K, B, D), and which words stand where.
        """
        text = self.encode_text(captions)
        v, s = self.visual_mapping(maps, grid), self.word_mapping(text.words)
        return v, s, self.sentence_mapping(text.sentences), text

    @torch.no_grad()
    def map_words(self, captions: Sequence[Sequence[str]]) -> list[Tensor]:
        """Tokenised captions -> the words (K, T, D) of each, length one."""
        text = self.encode_text(captions)
        s = self.word_mapping(text.words)
        return [s[:, index[mask]] for index, mask in zip(text.index, text.mask, strict=True)]

    @torch.no_grad()
    def map_sentences(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """C tokenised captions -> each as a whole, (K, C, D), length one."""
        return self.sentence_mapping(self.encode_text(captions).sentences)

    @torch.no_grad()
    def ground_words(self, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One image's cells (L, N, D) and words (K, T, D) -> their heat (T, N), scores, levels and highest heat (T).

        The highest heat is that of the levels' average as cosines, also where `fusion` is `peaks`.
        """
        heat, level_scores = (one[0] for one in attend(v.unsqueeze(0), s.unsqueeze(0)))
        if self.config.fusion == "best":
            fused, scores, levels = best_level(heat, level_scores)
            return fused, scores, levels, fused.amax(-1)
        weights = torch.tensor(self.config.level_weights or (1.0,) * v.shape[0], device=v.device)
        fused, scores, levels = average_levels(heat, level_scores, weights)
        top = fused.amax(-1)
        if self.config.fusion == "peaks":
            fused, *_ = average_levels(heat / heat.amax(-1, keepdim=True).clamp_min(1e-6), level_scores, weights)
        return fused, scores, levels, top

    @torch.no_grad()
    def ground_phrases(
        self, v: Tensor, s: Tensor, words: tuple[Tensor, Tensor, Tensor, Tensor], phrases: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Phrases of one image, all at once.

        Args:
            v: cells (L, N, D).
            s: words (K, W, D).
            words: what `ground_words` gave of them.
            phrases: of P phrases (P, W), 1 for each of its words; (P, W), the share of each of its words that names
                something; and (P) int64, the last of those, its head for the most part.

        Returns:
            Heat maps (P, M, M); the score of each phrase's best word (P), 0 for a phrase without words, and that
            word's level (P) int64; what speaks for the phrase's presence (P, E), E = 0 where none was learned; and how
            likely the thing's box covers each cell, (P, M, M), (P, 0, M) where no extent was fitted.
        """
        (_, scores, levels, top), (member, naming, last) = words, phrases
        maps, best, word = self._phrase_maps(v, words, member)
        chosen = torch.where(member.amax(1) > 0, levels[word], 0)
        evidence, extents = member[:, :0], maps[:, :0]
        if self.presence:
            said = self.presence(v, s, scores, top)  # (W, E)
            evidence = torch.cat([said[last], naming @ said], dim=1)
        if self.extent:
            extents = self.extent(*look(v, naming @ s.float(), maps, best)).view_as(maps)
        return maps, best, chosen, evidence, extents

    @torch.no_grad()
    def look(
        self, v: Tensor, s: Tensor, words: tuple[Tensor, Tensor, Tensor, Tensor], phrases: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """What an extent goes by, of `groundcli.model.extent.look`; arguments as of `ground_phrases`."""
        maps, best, _ = self._phrase_maps(v, words, phrases[0])
        return look(v, phrases[1] @ s.float(), maps, best)

    def _phrase_maps(
        self, v: Tensor, words: tuple[Tensor, Tensor, Tensor, Tensor], member: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Heat maps of phrases (P, M, M), the score of each one's best word, and that word: (P), (P)."""
        heat, scores, *_ = words
        # One matrix product averages the heat of each phrase's words, weighted by their scores. (P, W) @ (W, N)
        weights = member * scores
        means = weights @ heat.float() / weights.sum(1, keepdim=True).clamp_min(1e-12)
        best, word = weights.max(1)
        side = self.config.visual.grid
        return self._smooth(self.spread(v, means).view(-1, side, side)), best, word

    def _smooth(self, maps: Tensor) -> Tensor:
        """Heat maps (P, M, M), each cell the mean of its 3 x 3 cells, borders repeated, where the recipe says so."""
        if not self.config.smooth:
            return maps
        return F.avg_pool2d(F.pad(maps.unsqueeze(1), (1, 1, 1, 1), mode="replicate"), 3, 1)[:, 0]

    @torch.no_grad()
    def spread(self, v: Tensor, heat: Tensor) -> Tensor:
        """Heat (P, N) on one image's cells (L, N, D) -> each cell's mean over all cells, as far as they look like it.

        Two cells are alike by the cosine of what is in them beside the image's mean, averaged over the levels, to the
        power `spread` of the recipe: heat fills the thing that it lies on, and ends at its edges.
        """
        if not self.config.spread:
            return heat
        cells = F.normalize(v.float() - v.float().mean(1, keepdim=True), dim=-1)
        cells = cells.transpose(0, 1).flatten(1)  # (N, L D): one product sums over the levels too
        alike = (cells @ cells.T / len(v)).relu() ** self.config.spread  # (N, N)
        return heat.float() @ (alike / alike.sum(1, keepdim=True).clamp_min(1e-12)).T
