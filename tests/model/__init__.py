import torch
from torch import Tensor

from groundcli.model.attention import loss_terms, pairwise_scores
from groundcli.recipe import LossConfig


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
