"""The processes that train together, as `torchrun` starts them; one process alone is one rank of one.

    torchrun --nproc-per-node 2 -m groundcli train ...

What ranks tell each other is plain collectives of torch.distributed, and little: which images could be used, the scores
of all pairs, and the gradients' sum. See `gradient` for why that is enough.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among `count`; the first one alone writes and prints."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and prints."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of a list that all ranks know: runs of it in the ranks' order, at most one longer."""
        return items[len(items) * self.rank // self.count : len(items) * (self.rank + 1) // self.count]

    def gather(self, own: T) -> list[T]:
        """What every rank has, in the ranks' order: small plain things."""
        if self.count == 1:
            return [own]
        everyone: list[Any] = [None] * self.count
        dist.all_gather_object(everyone, own)
        return everyone

    def gather_rows(self, own: Tensor, rows: Sequence[int]) -> Tensor:
        """Rows (n_r, ...) of every rank below each other; `rows` are the n_r."""
        if self.count == 1:
            return own
        longest = max(rows)
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own
        everyone = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(everyone, padded)
        return torch.cat([part[:n] for part, n in zip(everyone, rows, strict=True)])

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Puts the sum of all ranks' gradients into every rank's; a rank may have none of some."""
        if self.count == 1:
            return
        parameters = list(parameters)
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        dist.all_reduce(flat)
        for p, total in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = total.view_as(p)


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
