"""Files of weights -> models."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError, first_line
from groundcli.model.grounding_model import GroundingModel, ModelConfig
from groundcli.model.text import TextEncoders, WordPieces
from groundcli.model.visual import Backbone
from groundcli.recipe import Recipe, recipe_from
from groundcli.weights.elmo_files import load_elmo
from groundcli.weights.files import SHIPPED, find, sha256


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


def frozen_parts(config: ModelConfig) -> dict[str, str]:
    """Names of the frozen weights that a model stands on -> their hashes."""
    return {name: sha256(find(name)) for name in (config.visual.weights, *config.text.encoders)}


def load_backbone(config: ModelConfig) -> Backbone:
    """The frozen CNN with its weights. Raises GroundcliError naming the file where they don't fit."""
    backbone, path = Backbone(config.visual), find(config.visual.weights)
    try:
        missing, _ = backbone.network.load_state_dict(load_file(path), strict=False)
    except RuntimeError as error:
        raise GroundcliError(f"{path}: not the weights of {config.visual.backbone}: {first_line(error)}") from None
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
        raise GroundcliError(f"{path}: its tensors don't fit its recipe: {first_line(error)}") from None
    return Loaded(model.eval(), recipe, metadata, path)
