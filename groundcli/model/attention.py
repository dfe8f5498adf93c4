"""Where a word looks, and how well it fits there (paper, section 3.3).

Notation: B images, C captions, T words, L levels, N cells, D common dimension; `v` cells (B, L, N, D), `s` words of
length one. Words stand in one space for all levels, K = 1, or in a space of each level's own, K = L.
"""

from torch import Tensor


def heatmaps(v: Tensor, s: Tensor) -> Tensor:
    """Cells (B, L, N, D) and each image's own words (B, K, T, D) -> heat max(0, v . s), (B, T, L, N). Equation 5."""
    return (s @ v.transpose(-1, -2)).relu().transpose(1, 2)


def gram(v: Tensor) -> Tensor:
    """Cells (..., N, D) -> inner products of all cells (..., N, N)."""
    return v @ v.transpose(-1, -2)


def scores(heat: Tensor, squared_length: Tensor) -> Tensor:
    """How well a word fits the place that it attends to: the cosine of word and attended feature. Equations 6 and 7.

    Of the attended feature a = sum_n h_n v_n only the length is needed: as h = max(0, v . s), a . s = sum_n h_n^2.

    Args:
        heat: (..., T, N).
        squared_length: (..., T), |a|^2 in float32.

    Returns:
        (..., T) in [0, 1]; 0 where there is no heat.
    """
    # sums and roots in float32, whatever the products were computed in
    return heat.float().square().sum(-1) / squared_length.clamp_min(1e-12).sqrt()


def attend(v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Cells (B, L, N, D) and each image's own words (B, K, T, D) -> heat (B, T, L, N) and level scores (B, T, L).

    For a few words on many cells: the attended features are formed, which takes T N D products.
    """
    heat = heatmaps(v, s)
    attended = heat.transpose(1, 2) @ v  # (B, L, T, D)
    return heat, scores(heat.transpose(1, 2), attended.float().square().sum(-1)).transpose(1, 2)


def pairwise_scores(v: Tensor, s: Tensor) -> Tensor:
    """Every image with every word: cells (B, L, N, D), words (K, U, D) -> (B, U, L).

    For many words: the attended features are never formed, as |a|^2 = h' G h, which takes N N (D + T) products. One
    matrix product for each image and level, against all words at once.
    """
    heat = heatmaps(v, s).transpose(1, 2)  # (B, L, U, N)
    return scores(heat, ((heat @ gram(v)).float() * heat.float()).sum(-1)).transpose(1, 2)


def best_level(heat: Tensor, level_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The level that fits a word best gives its heat map: (..., L, N), (..., L) -> (..., N), score, level (...)."""
    score, level = level_scores.max(-1)
    index = level[..., None, None].expand(*level.shape, 1, heat.shape[-1])
    return heat.gather(-2, index).squeeze(-2), score, level


def average_levels(heat: Tensor, level_scores: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The levels' heat maps averaged, each weighted by its score and by `weights` (L); shapes as in `best_level`.

    The score is the mean over levels; the level named is the one that weighs most.
    """
    weighted = level_scores * weights
    fused = (heat * weighted.unsqueeze(-1)).sum(-2) / weighted.sum(-1, keepdim=True).clamp_min(1e-12)
    return fused, weighted.sum(-1) / weights.sum(), weighted.argmax(-1)
