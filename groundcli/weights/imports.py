"""Original files of frozen parts -> the files that recipes name."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from groundcli.errors import GroundcliError, first_line


def import_backbone(name: str, source: Path) -> dict[str, Tensor]:
    """Weights of a timm model from a PyTorch file; unpickles plain tensors only.

    Files of other packages name the same tensors otherwise; where names differ, tensors are matched in order, each
    of which must have the shape that timm's has.

    Raises:
        GroundcliError: the file can't be read, or a shape differs.
    """
    import timm

    try:
        tensors = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        raise GroundcliError(f"{source}: not a PyTorch file of plain tensors ({first_line(error)})") from None
    target = {k: v for k, v in timm.create_model(name).state_dict().items() if not k.endswith("num_batches_tracked")}
    given = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    if target.keys() - given.keys():
        if len(target) != len(given):
            raise GroundcliError(f"{source}: has {len(given)} tensors, {name} has {len(target)}")
        given = dict(zip(target, given.values(), strict=True))
    for key, tensor in target.items():
        if given[key].shape != tensor.shape:
            raise GroundcliError(f"{source}: {key} has shape {tuple(given[key].shape)}, not {tuple(tensor.shape)}")
    return {key: given[key].contiguous() for key in target}


def import_word_pieces(source: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The input table of a BERT-like model's folder (`model.safetensors`, `vocab.txt`), centred and scaled.

    Raises:
        GroundcliError: a file is missing or holds no table.
    """
    try:
        pieces = (source / "vocab.txt").read_text("utf-8").splitlines()
        with safe_open(source / "model.safetensors", framework="pt") as file:
            names = [n for n in file.keys() if n.endswith("word_embeddings.weight")]  # noqa: SIM118 - not a mapping
            table = file.get_tensor(names[0]).float()
    except (OSError, IndexError) as error:
        raise GroundcliError(f"{source}: expected a folder with model.safetensors and vocab.txt ({error})") from None
    if len(pieces) != len(table):
        raise GroundcliError(f"{source}: vocab.txt has {len(pieces)} pieces, the table {len(table)} rows")
    table = table - table.mean(0)
    return {"table": (table / table.std()).half()}, pieces
