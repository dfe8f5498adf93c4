"""A running average of the trained weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from groundcli.model.grounding_model import GroundingModel


class Average:
    """Exponential moving average: `decay` of the old and the rest of the new, after every step."""

    def __init__(self, model: GroundingModel, decay: float):
        self.decay = decay
        self.tensors = {name: tensor.clone() for name, tensor in model.trained().items()} if decay else {}

    @torch.no_grad()
    def update(self, model: GroundingModel, step: int) -> None:
        """Takes in a step, counted from 1; the first ones weigh more, so that the beginning is soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now = model.trained() if self.decay else {}
        for name, tensor in self.tensors.items():
            tensor.lerp_(now[name], 1 - decay)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from tensors of an earlier process."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def in_place(self, model: GroundingModel) -> Iterator[None]:
        """The model has the average's weights, where there is one, until the block ends."""
        if not self.decay:
            yield
            return
        before = {name: tensor.clone() for name, tensor in model.trained().items()}
        model.load_trained(self.tensors)
        try:
            yield
        finally:
            model.load_trained(before)
