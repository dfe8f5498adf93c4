"""The loss over all pairs of a batch's images and captions (paper, section 3.4). Padding never enters it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from groundcli.model.attention import pairwise_scores
from groundcli.recipe import LossConfig


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

    For every image b that has word u, the cross-entropy of b among itself and all images without u; images that
    have the word too are no negatives.

    Args:
        scores: (B, U).
        present: (B, U) bool, whether any caption of the image has the word; words that are absent everywhere, or
            present everywhere, have no part in the loss.
        gamma: inverse temperature.
    """
    logits = gamma * scores
    without = logits.masked_fill(present, -1e9).logsumexp(0)  # (U)
    weight = present.to(logits.dtype)
    return (F.softplus(without - logits) * weight).sum() / weight.sum().clamp_min(1)


def grounding_loss(
    v: Tensor, s: Tensor, z: Tensor, index: Tensor, mask: Tensor, config: LossConfig, present: Tensor | None = None
) -> Tensor:
    """The loss of B pairs in the common space.

    Args:
        v: cells of the images (B, L, N, D).
        s: the captions' words (K, U, D), length one.
        z: the captions' sentences (K, B, D), length one.
        index, mask, config, present: as in `loss_terms`.

    Returns:
        The loss, a scalar.
    """
    both = pairwise_scores(v, torch.cat([s, z], dim=1))
    return torch.stack(list(loss_terms(both, index, mask, config, present).values())).sum()


def loss_terms(
    both: Tensor, index: Tensor, mask: Tensor, config: LossConfig, present: Tensor | None = None
) -> dict[str, Tensor]:
    """The terms whose sum is the loss, each from image to caption and from caption to image. Equations 8 to 11.

    Args:
        both: scores of the images with the captions' words and then sentences (B, U + C, L), where C is a multiple of
            B: a caption of each image in their order, then another one of each, ...; their losses are averaged.
        index: (C, T), which of the U words stands at each place of the captions; anything valid at padding.
        mask: (C, T) bool, false at padding.
        config: gammas, the treatment of levels, and the weight of the words' own contrast.
        present: (B, U) bool for `word_contrast`, where its weight isn't 0.

    Returns:
        Scalars `words`, `sentence` and, with its weight, `contrast`.
    """
    if config.levels == "max":
        both = both.amax(-1, keepdim=True)
    words, sentence = both.split([both.shape[1] - len(index), len(index)], dim=1)
    terms = {
        "words": [
            matching_loss(part, config.gamma2)
            for level in words.unbind(-1)
            for part in word_pertinence(level[:, index], mask, config.gamma1).split(len(both), dim=1)
        ],
        "sentence": [
            matching_loss(part, config.gamma2)
            for level in sentence.unbind(-1)
            for part in level.split(len(both), dim=1)
        ],
    }
    if config.word_weight and present is not None:
        terms["contrast"] = [
            config.word_weight * word_contrast(level, present, config.word_gamma) for level in words.unbind(-1)
        ]
    return {name: torch.stack(levels).mean() for name, levels in terms.items()}
