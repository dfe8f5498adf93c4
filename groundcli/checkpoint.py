"""Checkpoints: safetensors for every tensor, JSON in its metadata for everything else. Nothing is unpickled.

What a checkpoint says of itself is read without torch, which is imported where tensors are wanted.
"""

import json
import os
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from groundcli.errors import GroundcliError, first_line
from groundcli.files import partial_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CRC32 = "crc32"  # of the tensors, in the metadata of a file


def save(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, Any], previous: Path | None = None
) -> None:
    """Writes a checkpoint, whole or not at all: an older one under this name lives until the new one is on disk.

    The metadata are plain values, for JSON. An older checkpoint is moved to `previous`, if that is given, instead of
    being replaced. Raises GroundcliError where it can't be written, as on a full disk; what was there is untouched.
    """
    partial = partial_of(path)
    try:
        # One entry: safetensors writes several in no order, and equal checkpoints are to be equal files.
        write_tensors(partial, tensors, {"groundcli": json.dumps({**metadata, CRC32: _crc32(tensors)})})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        if previous and path.exists():
            path.replace(previous)
        partial.replace(path)
    except (SafetensorError, OSError) as error:
        raise GroundcliError(
            f"{path}: can't be written ({first_line(error)}); make room on the disk. What was saved before is whole"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """New names are on disk too; Windows can't open folders, and has no need to."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _crc32(tensors: "Mapping[str, Tensor]") -> str:
    """Of all tensors' bytes, in the order of their names."""
    import torch

    total = 0
    for _, tensor in sorted(tensors.items()):
        total = zlib.crc32(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def _crc32_in(path: Path) -> str:
    """The same of a whole safetensors file: the length of its header, the header, and the bytes of all tensors."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header, total = json.loads(content[8:start]), 0
    for name in sorted(header.keys() - {"__metadata__"}):
        begin, end = header[name]["data_offsets"]
        total = zlib.crc32(memoryview(content)[start + begin : start + end], total)
    return f"{total:08x}"


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None) -> None:
    """Writes safetensors with the permissions of any new file; the library's own are for their owner alone."""
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, path, metadata)
    path.chmod(mode)


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file. Raises GroundcliError where it isn't a whole one."""
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise GroundcliError(f"{path}: not a whole safetensors file ({first_line(error)})") from None


def about(path: Path, needed: Collection[str] = ()) -> dict[str, Any]:
    """What a checkpoint says of itself: its metadata, which has to have the keys that are needed.

    Raises GroundcliError where the file is missing, cut off, damaged, or not written by groundcli.
    """
    if not path.is_file():
        raise GroundcliError(f"{path}: no such file")
    metadata = metadata_of(path)
    if "groundcli" not in metadata:
        raise GroundcliError(f"{path}: was not written by groundcli: it has no recipe in its metadata")
    try:
        said = json.loads(metadata["groundcli"])
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise GroundcliError(f"{path}: damaged: its metadata can't be read")
    if said.get(CRC32) not in (None, _crc32_in(path)):
        raise GroundcliError(f"{path}: damaged: its tensors are not those that were written")
    lacking = [key for key in needed if key not in said]
    if lacking:
        raise GroundcliError(f"{path}: damaged: its metadata lacks {lacking[0]}")
    return said


def about_trained(path: Path) -> dict[str, Any]:
    """What a trained model says of itself. Raises GroundcliError where the file holds none."""
    metadata = about(path)
    frozen = metadata.get("frozen")
    named = isinstance(frozen, dict) and all(isinstance(digest, str) for digest in frozen.values())
    with safe_open(path, framework="numpy") as file:
        trained = any(name.startswith("model/") for name in file.keys())  # noqa: SIM118 - not a mapping
    if not trained or not named or not isinstance(metadata.get("recipe"), dict):
        raise GroundcliError(f"{path}: written by groundcli, but not a trained model")
    return metadata


def load(path: Path, needed: Collection[str] = ()) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Reads a checkpoint: its tensors, and what `about` gives but for the checksum, which isn't for a copy."""
    from safetensors.torch import load_file

    metadata = about(path, needed)
    metadata.pop(CRC32, None)
    return load_file(path), metadata


def load_trained(path: Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Reads what training made of a model, and the metadata. Raises GroundcliError where the file holds no model."""
    from safetensors.torch import load_file

    metadata = about_trained(path)
    metadata.pop(CRC32, None)
    return part("model", load_file(path)), metadata


def prefixed(prefix: str, tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The same tensors under `prefix/name`."""
    return {f"{prefix}/{name}": t for name, t in tensors.items()}


def part(prefix: str, tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The tensors under `prefix/`, by the rest of their names."""
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(prefix + "/")}


def optimizer_tensors(optimizer: "torch.optim.Optimizer") -> "dict[str, Tensor]":
    """An optimizer's state (moments, steps) by parameter number; rates are the schedule's to set."""
    import torch

    state = optimizer.state_dict()["state"]
    return {f"{i}/{name}": torch.as_tensor(value) for i, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: "torch.optim.Optimizer", tensors: "Mapping[str, Tensor]") -> None:
    """Undoes `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
