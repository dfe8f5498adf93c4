"""The loss over all pairs of a batch's images and captions (paper, section 3.4). Padding never enters it."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from groundcli.model.attention import pairwise_scores


@dataclass(frozen=True)
class LossConfig:
    """What is maximised.

    Attributes:
        gamma1: sharpness of the log-sum-exp over a caption's words.
        gamma2: inverse temperature of the softmax over a batch's pairs.
        levels: `max` takes every word's best level (the paper); `each` gives every level a loss of its own and
            averages them, so that no level starves.
        word_weight: weight of the contrast of single words, which the paper doesn't have.
        word_gamma: inverse temperature of that contrast.
    """

    gamma1: float = 5.0
    gamma2: float = 10.0
    levels: Literal["max", "each"] = "max"
    word_weight: float = 0.0
    word_gamma: float = 20.0


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
    """Four terms: words and sentence, image to caption and caption to image. Equations 8 to 11.

    Args:
        v: cells of the images (B, L, N, D).
        s: the captions' words (K, U, D), length one.
        z: the captions' sentences (K, B, D), length one.
        index: (B, T), which of the U words stands at each place of the captions; anything valid at padding.
        mask: (B, T) bool, false at padding.
        config: gammas, the treatment of levels, and the weight of the words' own contrast.
        present: (B, U) bool for `word_contrast`, where its weight isn't 0.

    Returns:
        The loss, a scalar.
    """
    both = pairwise_scores(v, torch.cat([s, z], dim=1))  # (B, U + B, L)
    if config.levels == "max":
        both = both.amax(-1, keepdim=True)
    losses = []
    for scores in both.unbind(-1):
        words, sentence = scores.split([s.shape[1], z.shape[1]], dim=1)
        loss = matching_loss(word_pertinence(words[:, index], mask, config.gamma1), config.gamma2)
        loss = loss + matching_loss(sentence, config.gamma2)
        if config.word_weight and present is not None:
            loss = loss + config.word_weight * word_contrast(words, present, config.word_gamma)
        losses.append(loss)
    return torch.stack(losses).mean()
