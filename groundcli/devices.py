"""Models on torch: where, and how precisely."""

import copy
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundcli.errors import GroundcliError, UsageError
from groundcli.model.grounding_model import GroundingModel
from groundcli.options import Precision


def torch_device(name: str) -> torch.device:
    """The device of a name. Raises UsageError for a name that isn't one, GroundcliError for a device not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise GroundcliError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; try cpu")
    return device


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """The context to compute in. `auto` is bf16 on a GPU that has it, else float32.

    Within bf16, the backbone, the mappings and the products of cells and words are bfloat16; text encoders, norms,
    softmax and log-sum-exp stay float32, and so do all weights.
    """
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


class TorchRuntime:
    """A model on a device, by torch, as precise as `autocast` says; see `groundcli.grounder.Runtime`. Its arrays are
    tensors there.
    """

    name = "torch"

    def __init__(self, model: GroundingModel, device: torch.device | str = "cpu", precision: Precision = "auto"):
        self.model, self.precision = model.eval().to(device), precision
        self.config, self.device = model.config, str(torch.device(device))
        self._computing = lambda: autocast(torch.device(device), precision)

    @property
    def knows(self) -> tuple[bool, bool]:
        """See `Runtime`."""
        return self.model.presence is not None, self.model.extent is not None

    def changed(self, **changes: Any) -> "TorchRuntime":
        """The same weights, on the same device, with another `ModelConfig`."""
        other = copy.copy(self)
        other.model = copy.copy(self.model)
        other.config = other.model.config = replace(self.config, **changes)
        return other

    def cells(self, pixels: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """See `Runtime`."""
        return self.map_cells(self.maps(pixels))

    @torch.no_grad()
    def maps(self, pixels: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """Images (S, S, 3) uint8 RGB -> the backbone's feature maps, (B, C_l, H_l, W_l)."""
        with self._computing():
            return self.model.backbone(as_batch(pixels).to(self.device))

    @torch.no_grad()
    def map_cells(self, maps: Sequence[Tensor]) -> Sequence[Tensor]:
        """The backbone's feature maps of images, (B, C_l, H_l, W_l) -> their cells (L, N, D)."""
        with self._computing():
            return self.model.visual_mapping(maps, self.config.visual.grid).unbind()

    def words(self, captions: Sequence[Sequence[str]]) -> Sequence[Sequence[Tensor]]:
        """See `Runtime`."""
        with self._computing():
            return self.model.map_words(captions)

    @torch.no_grad()
    def sentences(self, captions: Sequence[Sequence[str]]) -> Sequence[Tensor]:
        """See `Runtime`."""
        with self._computing():
            return self.model.sentence_mapping(self.model.encode_text(captions).sentences).unbind(1)

    def heat(self, cells: Tensor, words: Sequence[Tensor], *phrases: np.ndarray) -> list[np.ndarray]:
        """See `Runtime`."""
        s = torch.stack([*words], dim=1)
        with self._computing():
            said = self.model.ground_words(cells, s)
        found = self.model.ground_phrases(cells, s, said, *(torch.from_numpy(each).to(self.device) for each in phrases))
        return [values.cpu().numpy() for values in found]


def as_batch(pixels: Sequence[np.ndarray]) -> Tensor:
    """Images (S, S, 3) uint8 -> (B, 3, S, S) uint8."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
