"""The gradient of a loss over all pairs of a batch, whose images may be spread over ranks and taken in parts.

Every pair of a batch counts: a loss of each part by itself would have fewer negatives, and be another loss. But the
mappings enter it through the scores of every image with every word and sentence alone, (B, U + C, L), which are small:
a few MB where the cells behind them are gigabytes. So

1. every part of the images is scored against all of the batch's captions, without keeping what made the scores,
2. the scores of all parts and ranks are put together,
3. the loss and its gradient with respect to the scores are computed there, by every rank,
4. each part is scored once more, and its images' share of that gradient sent back through the mappings
   (GradCache: Gao et al., 2021, arXiv 2101.06983). A part alone is scored once.

Every rank encodes all captions by itself: text is cheap beside images, and no embedding has to travel. The sum over
ranks of the parameters' gradients is then that of one rank with the whole batch.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from groundcli.data.phrases import content_key
from groundcli.devices import autocast
from groundcli.errors import GroundcliError, first_line
from groundcli.model.attention import loss_terms, pairwise_scores
from groundcli.model.grounding_model import GroundingModel
from groundcli.options import Precision

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among the `count` that train together, as `torchrun` starts them; alone it is one rank of one.

    Ranks tell each other little: which images could be used, the scores of all pairs, and the gradients' sum. Whatever
    does so raises GroundcliError where another rank is gone.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and prints."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of a list that all ranks know: runs of it in the ranks' order, at most one longer."""
        return items[len(items) * self.rank // self.count : len(items) * (self.rank + 1) // self.count]

    def gather(self, mine: T) -> list[T]:
        """What every rank has, in the ranks' order: small plain things, and tensors on the CPU."""
        if self.count == 1:
            return [mine]
        everyone: list[Any] = [None] * self.count
        with _together():
            dist.all_gather_object(everyone, mine)
        return everyone

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Puts the sum of all ranks' gradients into every rank's; a rank may have none of some."""
        if self.count == 1:
            return
        parameters = list(parameters)
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        with _together():
            dist.all_reduce(flat)
        for p, total in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = total.view_as(p)


@contextmanager
def _together() -> Iterator[None]:
    """What other ranks take part in."""
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's
        raise GroundcliError(
            f"another process of this run has ended ({first_line(error)[:80]}); give the same command with --resume"
        ) from None


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """This process's rank and device: NCCL with a GPU each where the device is `cuda`, gloo on CPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Batch:
    """The B pairs of a step, in one order for all ranks."""

    names: list[str]  # of the images
    captions: list[list[str]]  # tokenised, one per image in their order; then another one per image, ...
    content: list[set[str]]  # of each image, what all words of all its captions share with their other forms
    # This rank's images, in order, to be taken one part after the other: of each part the feature maps
    # (b, C_l, H_l, W_l) of every level, or what the tuned stages get.
    parts: list[list[Tensor]]
    by_rank: list[int]  # how many of the images each rank has

    def present(self, words: Sequence[str]) -> Tensor:
        """(B, U) bool: whether any caption of the image has the word in some form; never for a stop word."""
        keys = [content_key(word) for word in words]
        return torch.tensor([[key in content for key in keys] for content in self.content])


def add_gradient(
    model: GroundingModel,
    batch: Batch,
    grid: int,
    ranks: Ranks,
    precision: Precision,
    stages: Callable[[Tensor], list[Tensor]] | None = None,
) -> dict[str, float]:
    """Adds the gradient of the batch's loss to the parameters' `grad`, and returns the terms of the loss.

    Cells come on a grid of so many per side; `stages` are the tuned ones, which make feature maps of a batch's maps,
    where they learn.
    """
    device = model.backbone.mean.device
    with autocast(device, precision):
        text, words = model.map_text(batch.captions)
    # Cut off from what made it: the parts add up their gradients here, and the text is gone back through once.
    held = words.detach().requires_grad_(words.requires_grad)  # (K, U + C, D)

    def score(maps: list[Tensor]) -> Tensor:
        with autocast(device, precision):
            levels = stages(*maps) if stages else maps
            return pairwise_scores(model.visual_mapping(levels, grid), held)  # (b, U + C, L)

    several = len(batch.parts) > 1
    with torch.set_grad_enabled(not several):
        scored = [score(maps) for maps in batch.parts]
    everyone = chain.from_iterable(ranks.gather([part.detach().cpu() for part in scored]))
    scores = torch.cat([part.to(device) for part in everyone]).requires_grad_()  # (B, U + C, L)
    present = batch.present(text.tokens).to(device) if model.config.loss.word_weight else None
    terms = loss_terms(scores, text.index, text.mask, model.config.loss, present)
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), scores)

    shares = gradient.split(batch.by_rank)[ranks.rank].split([len(maps[0]) for maps in batch.parts])
    for maps, first, share in zip(batch.parts, scored, shares, strict=True):
        torch.autograd.backward(score(maps) if several else first, share)
    if held.grad is not None:
        words.backward(held.grad)
    ranks.sum_gradients(p for p in model.parameters() if p.requires_grad)
    return {name: float(term.detach()) for name, term in terms.items()}
