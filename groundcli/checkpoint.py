"""Checkpoints: safetensors for every tensor, JSON in its metadata for everything else. Nothing is unpickled."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from groundcli.errors import GroundcliError


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all: an older one under this name lives until the new one is on disk."""
    partial = path.with_name(path.name + ".partial")
    write_tensors(partial, tensors, {"groundcli": json.dumps(metadata)})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes safetensors with the permissions of any new file; the library's own are for their owner alone."""
    path.touch()
    mode = path.stat().st_mode
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, path, metadata)
    path.chmod(mode)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a checkpoint: its tensors and its metadata.

    Raises:
        GroundcliError: where the file is missing, cut off, or not written by groundcli.
    """
    if not path.is_file():
        raise GroundcliError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = (file.metadata() or {}).get("groundcli")
    except (SafetensorError, OSError) as error:
        raise GroundcliError(f"{path}: not a whole safetensors file ({error})") from None
    if metadata is None:
        raise GroundcliError(f"{path}: was not written by groundcli: it has no recipe in its metadata")
    return tensors, json.loads(metadata)


def load_trained(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what training made of a model, and the metadata. Raises GroundcliError where the file holds no model."""
    tensors, metadata = load(path)
    trained = part("model", tensors)
    if "recipe" not in metadata or not trained:
        raise GroundcliError(f"{path}: written by groundcli, but not a trained model")
    return trained, metadata


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under `prefix/name`."""
    return {f"{prefix}/{name}": t for name, t in tensors.items()}


def part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix/`, by the rest of their names."""
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(prefix + "/")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state (moments, steps) by parameter number; rates are the schedule's to set."""
    state = optimizer.state_dict()["state"]
    return {f"{i}/{name}": torch.as_tensor(value) for i, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undoes `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
