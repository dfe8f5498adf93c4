"""Names of weights -> files, and files -> models."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from groundcli import checkpoint
from groundcli.elmo_files import load_elmo
from groundcli.errors import GroundcliError, UsageError
from groundcli.model.grounding_model import GroundingModel, ModelConfig
from groundcli.model.text import TextEncoders, WordPieces
from groundcli.model.visual import Backbone
from groundcli.recipe import Recipe, recipe_from

_INSTALLED = Path(__file__).parent / "_weights"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "weights"


@dataclass(frozen=True)
class Loaded:
    """A model with what its checkpoint says of itself."""

    model: GroundingModel
    recipe: Recipe
    metadata: Mapping[str, Any]
    path: Path

    @property
    def name(self) -> str:
        """Short where it ships, else its path."""
        return self.path.stem if self.path.parent == SHIPPED else str(self.path)


def find(name: str) -> Path:
    """The file or folder of weights, by their name or path. Raises GroundcliError that lists what there is."""
    for path in (SHIPPED / f"{name}.safetensors", SHIPPED / name, Path(name)):
        if path.exists() and name:
            return path
    raise GroundcliError(f"{name}: no weights of this name and no such file; shipped are {', '.join(shipped())}")


def shipped() -> list[str]:
    """Names of all weights that ship."""
    files = {p.stem for p in SHIPPED.glob("*.safetensors")}
    return sorted(files | {p.parent.name for p in SHIPPED.glob("*/options.json")})


def sha256(path: Path) -> str:
    """Hash of a file; of an ELMo's folder, that of its weights."""
    digest = hashlib.sha256()
    with (path / "lm_weights.hdf5" if path.is_dir() else path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def frozen_parts(config: ModelConfig) -> dict[str, str]:
    """Names of the frozen weights that a model stands on -> their hashes."""
    return {name: sha256(find(name)) for name in (config.visual.weights, *config.text.encoders)}


def load_backbone(config: ModelConfig) -> Backbone:
    """The frozen CNN with its weights. Raises GroundcliError naming the file where they don't fit."""
    backbone, path = Backbone(config.visual), find(config.visual.weights)
    try:
        missing, _ = backbone.network.load_state_dict(load_file(path), strict=False)
    except RuntimeError as error:
        raise GroundcliError(f"{path}: not the weights of {config.visual.backbone}: {_first_line(error)}") from None
    lacking = [name for name in missing if not name.endswith("num_batches_tracked")]
    if lacking:
        raise GroundcliError(f"{path}: not the weights of {config.visual.backbone}: has no {lacking[0]}")
    return backbone


def load_text(config: ModelConfig) -> TextEncoders:
    """The frozen text encoders: a folder is an ELMo (one at most), a file a table of word pieces."""
    paths = [find(name) for name in config.text.encoders]
    elmos = [load_elmo(path) for path in paths if path.is_dir()]
    if len(elmos) > 1:
        raise UsageError(f"text.encoders: {', '.join(config.text.encoders)} name more than one ELMo")
    return TextEncoders(elmos[0] if elmos else None, [load_word_pieces(path) for path in paths if path.is_file()])


def load_word_pieces(path: Path) -> WordPieces:
    """A table of word pieces. Raises GroundcliError."""
    with safe_open(path, framework="pt") as file:
        pieces = (file.metadata() or {}).get("pieces")
        if pieces is None or "table" not in file.keys():  # noqa: SIM118 - not a mapping
            raise GroundcliError(f"{path}: not a table of word pieces")
        return WordPieces(file.get_tensor("table"), json.loads(pieces))


def new_model(config: ModelConfig) -> GroundingModel:
    """A model whose frozen parts have their weights and whose other parts are random."""
    return GroundingModel(config, load_backbone(config), load_text(config))


def load_model(name: str) -> Loaded:
    """A trained model by its weights' name, checkpoint file or run folder.

    Raises:
        GroundcliError: no such weights, not a checkpoint, or it stands on other frozen weights than those here.
    """
    path = find(name)
    if path.is_dir():
        path = path / "best.safetensors"
    tensors, metadata = checkpoint.load(path)
    if "recipe" not in metadata:
        raise GroundcliError(f"{path}: a part of a model, not a model; shipped models are listed by `weights list`")
    recipe = recipe_from(metadata["recipe"], str(path))
    for part, digest in metadata["frozen"].items():
        if sha256(find(part)) != digest:
            raise GroundcliError(f"{path}: was trained on other weights {part} than {find(part)}; put those back")
    model = new_model(recipe.model)
    try:
        model.load_trained(checkpoint.part("model", tensors))
    except RuntimeError as error:
        raise GroundcliError(f"{path}: its tensors don't fit its recipe: {_first_line(error)}") from None
    return Loaded(model.eval(), recipe, metadata, path)


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
        raise GroundcliError(f"{source}: not a PyTorch file of plain tensors ({_first_line(error)})") from None
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


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
