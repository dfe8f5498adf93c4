"""Mixed precision: convolutions and matrix products in bfloat16, everything that sums up in float32."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bf16"]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """The context to compute in. `auto` is bf16 on a GPU that has it, else float32.

    Within bf16, the CNN, the mappings and the products of cells and words are bfloat16; text encoders, norms, softmax
    and log-sum-exp stay float32, and so do all weights.
    """
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
