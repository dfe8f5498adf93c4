"""The gradient of a loss over all pairs of a batch, whose images may be spread over ranks and taken in parts.

The mappings enter the loss through the scores of every image with every word and sentence alone, (B, U + B, L), which
are small: a few MB where the cells behind them are gigabytes. So every part of the images is scored against all of the
batch's captions, the scores of all parts and ranks are put together, the loss and its gradient with respect to the
scores are computed there by everyone, and each part's rows of that gradient are sent back through the mappings.
A part is scored once more for that where there are several (GradCache: Gao et al., 2021, arXiv 2101.06983). Every rank
encodes all captions by itself: text is cheap beside images, and no embedding has to travel. The sum over ranks of the
parameters' gradients is then that of one rank with the whole batch.
"""

import torch
from torch import Tensor

from groundcli.devices import autocast
from groundcli.model.attention import pairwise_scores
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.loss import loss_terms
from groundcli.options import Precision
from groundcli.training.pairs import Batch
from groundcli.training.ranks import Ranks


def add_gradient(
    model: GroundingModel, batch: Batch, grid: int, ranks: Ranks, precision: Precision
) -> dict[str, float]:
    """Adds the gradient of the batch's loss to the parameters' `grad`, and returns the terms of the loss.

    Args:
        model: with the mappings that are trained.
        batch: all captions, and this rank's images.
        grid: cells a side, M.
        ranks: who has the other images.
        precision: of convolutions and matrix products.
    """
    device = model.backbone.mean.device
    with autocast(device, precision):
        text = model.encode_text(batch.captions)
        words = torch.cat([model.word_mapping(text.words), model.sentence_mapping(text.sentences)], dim=1)
    held = words.detach().requires_grad_(words.requires_grad)  # (K, U + B, D)

    def score(maps: list[Tensor]) -> Tensor:
        with autocast(device, precision):
            return pairwise_scores(model.visual_mapping(maps, grid), held)  # (b, U + B, L)

    several = len(batch.parts) > 1
    with torch.set_grad_enabled(not several):
        scored = [score(part.maps) for part in batch.parts]
    levels = len(model.visual_mapping.stacks)
    own = torch.cat([held.new_zeros(0, held.shape[1], levels), *(part.detach() for part in scored)])
    scores = ranks.gather_rows(own, batch.by_rank).requires_grad_()  # (B, U + B, L)
    present = batch.present(text.tokens).to(device) if model.config.loss.word_weight else None
    terms = loss_terms(scores, text.index, text.mask, model.config.loss, present)
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), scores)

    rows = gradient.split(batch.by_rank)[ranks.rank].split([len(part.rows) for part in batch.parts])
    for part, first, back in zip(batch.parts, scored, rows, strict=True):
        torch.autograd.backward(score(part.maps) if several else first, back)
    if held.grad is not None:
        words.backward(held.grad)
    ranks.sum_gradients(p for p in model.parameters() if p.requires_grad)
    return {name: float(term.detach()) for name, term in terms.items()}
