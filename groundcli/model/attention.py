"""Where a word looks, how well it fits there (paper, section 3.3), and the loss made of that (section 3.4).

Notation: B images, C captions, T words, L levels, N cells, D common dimension; `v` cells (B, L, N, D), `s` words of
length one. Words stand in one space for all levels, K = 1, or in a space of each level's own, K = L.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from groundcli.recipe import LossConfig


def heatmaps(v: Tensor, s: Tensor) -> Tensor:
    """Cells (B, L, N, D) and each image's own words (B, K, T, D) -> heat max(0, v . s), (B, T, L, N). Equation 5."""
    return (s @ v.transpose(-1, -2)).relu().transpose(1, 2)


def contrasted(v: Tensor) -> Tensor:
    """Cells (..., N, D) of images -> what is in each beside the image's mean, float32 of length one."""
    own = v.float() - v.float().mean(-2, keepdim=True)
    return own / (own * own).sum(-1, keepdim=True).sqrt().clamp_min(1e-12)


def scores(heat: Tensor, squared_length: Tensor) -> Tensor:
    """How well a word fits the place that it attends to: the cosine of word and attended feature. Equations 6 and 7.

    Of the attended feature a = sum_n h_n v_n only the length is needed: as h = max(0, v . s), a . s = sum_n h_n^2.
    So heat (..., T, N) and |a|^2 in float32 (..., T) -> (..., T) in [0, 1]; 0 where there is no heat.
    """
    heat = heat.float()  # sums and roots in float32, whatever the products were computed in
    return (heat * heat).sum(-1) / squared_length.clamp_min(1e-12).sqrt()  # ONNX's power takes three times as long


def attend(v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Cells (B, L, N, D) and each image's own words (B, K, T, D) -> heat (B, T, L, N) and level scores (B, T, L).

    For a few words on many cells: the attended features are formed, which takes T N D products.
    """
    heat = heatmaps(v, s)
    attended = heat.transpose(1, 2) @ v  # (B, L, T, D)
    return heat, scores(heat.transpose(1, 2), attended.float().square().sum(-1)).transpose(1, 2)


def pairwise_scores(v: Tensor, s: Tensor) -> Tensor:
    """Every image with every word: cells (B, L, N, D), words (K, U, D) -> (B, U, L).

    For many words: the attended features are never formed, as |a|^2 = h' G h with the inner products G of all cells,
    which takes N N (D + T) products. One matrix product for each image and level, against all words at once.
    """
    heat = heatmaps(v, s).transpose(1, 2)  # (B, L, U, N)
    gram = v @ v.transpose(-1, -2)  # (B, L, N, N)
    return scores(heat, ((heat @ gram).float() * heat.float()).sum(-1)).transpose(1, 2)


def best_level(heat: Tensor, level_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The level that fits a word best gives its heat map: (..., L, N), (..., L) -> (..., N), score, level (...)."""
    score, level = level_scores.max(-1)
    index = level[..., None, None].expand(*level.shape, 1, heat.shape[-1])  # take_along_dim would fix T in an export
    return heat.gather(-2, index).squeeze(-2), score, level


def average_levels(heat: Tensor, level_scores: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The levels' heat maps averaged, each weighted by its score and by `weights` (L); shapes as in `best_level`.

    The score is the mean over levels; the level named is the one that weighs most.
    """
    weighted = level_scores * weights
    fused = (heat * weighted.unsqueeze(-1)).sum(-2) / weighted.sum(-1, keepdim=True).clamp_min(1e-12)
    return fused, weighted.sum(-1) / weights.sum(), weighted.argmax(-1)


# --- The loss, over all pairs of a batch's images and captions. Padding never enters it.


def word_pertinence(scores: Tensor, mask: Tensor, gamma1: float) -> Tensor:
    """R_w(S, I) = log(sum_t exp(gamma1 R_t)) / gamma1 over real words: (..., C, T) and (C, T) bool -> (..., C)."""
    return (gamma1 * scores).masked_fill(~mask, float("-inf")).logsumexp(-1) / gamma1


def matching_loss(pertinence: Tensor, gamma2: float) -> Tensor:
    """Cross-entropy of the matching pairs, both ways: images x captions (B, B), pairs on the diagonal -> ()."""
    target = torch.arange(len(pertinence), device=pertinence.device)
    logits = gamma2 * pertinence
    return F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)


def word_contrast(scores: Tensor, present: Tensor, gamma: float) -> Tensor:
    """Each word against the images whose captions lack it: no word hides behind the others of its caption.

    For every image b that has word u, the cross-entropy of b among itself and all images without u, by scores (B, U)
    and an inverse temperature. `present` (B, U) bool says whether any caption of the image has the word; words that are
    absent everywhere, or present everywhere, have no part in the loss.
    """
    logits = gamma * scores
    without = logits.masked_fill(present, -1e9).logsumexp(0)  # (U)
    weight = present.to(logits.dtype)
    return (F.softplus(without - logits) * weight).sum() / weight.sum().clamp_min(1)


def loss_terms(
    both: Tensor, index: Tensor, mask: Tensor, config: LossConfig, present: Tensor | None = None
) -> dict[str, Tensor]:
    """The terms whose sum is the loss, each from image to caption and from caption to image. Equations 8 to 11.

    Args:
        both: scores of the images with the captions' words and then sentences (B, U + C, L), where C is a multiple of
            B: a caption of each image in their order, then another one of each, ...; their losses are averaged.
        index: (C, T), which of the U words stands at each place of the captions; anything valid at padding.
        mask: (C, T) bool, false at padding.
        config: see there.
        present: (B, U) bool for `word_contrast`, where its weight isn't 0.

    Returns:
        Scalars `words`, `sentence` and, with its weight, `contrast`.
    """
    if config.levels == "max":
        both = both.amax(-1, keepdim=True)
    words, sentence = both.split([both.shape[1] - len(index), len(index)], dim=1)

    def matched(pertinences: Iterable[Tensor]) -> list[Tensor]:
        """The loss of each level, images x captions (B, C), and of each B of its captions."""
        return [matching_loss(part, config.gamma2) for level in pertinences for part in level.split(len(both), dim=1)]

    levels = words.unbind(-1)
    terms = {
        "words": matched(word_pertinence(level[:, index], mask, config.gamma1) for level in levels),
        "sentence": matched(sentence.unbind(-1)),
    }
    if config.word_weight and present is not None:
        terms["contrast"] = [config.word_weight * word_contrast(level, present, config.word_gamma) for level in levels]
    return {name: torch.stack(losses).mean() for name, losses in terms.items()}
