"""Where and how precisely torch computes."""

from contextlib import AbstractContextManager

import torch

from groundcli.errors import GroundcliError, UsageError
from groundcli.options import Precision


def torch_device(name: str) -> torch.device:
    """The device of a name. Raises UsageError for a name that isn't one, GroundcliError for a device not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N") from None
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
