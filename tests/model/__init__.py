from collections.abc import Sequence

import torch
from torch import Tensor

from groundcli.model.attention import loss_terms, pairwise_scores
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.text import TextFeatures
from groundcli.recipe import LossConfig


def in_common_space(
    model: GroundingModel, maps: Sequence[Tensor], captions: Sequence[Sequence[str]], grid: int
) -> tuple[Tensor, Tensor, Tensor, TextFeatures]:
    """B pairs as `grounding_loss` wants them: cells (B, L, N, D), words (K, U, D), sentences (K, B, D), and the text.

    Args:
        model: whose mappings they go through.
        maps: the backbone's feature maps, (B, C_l, H_l, W_l) per level.
        captions: B tokenised captions, of at least one word each.
        grid: cells per side that every level is resized to.
    """
    text, both = model.map_text(captions)
    s, z = both.split([both.shape[1] - len(captions), len(captions)], dim=1)
    return model.visual_mapping(maps, grid), s, z, text


def grounding_loss(
    v: Tensor, s: Tensor, z: Tensor, index: Tensor, mask: Tensor, config: LossConfig, present: Tensor | None = None
) -> Tensor:
    """The loss of B pairs in the common space, as one sum of `loss_terms`.

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
