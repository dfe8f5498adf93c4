"""Files of weights -> models."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError, first_line
from groundcli.model.elmo import Elmo, ElmoConfig
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.text import Characters, TextEncoders, WordPieces
from groundcli.model.visual import Backbone
from groundcli.recipe import ModelConfig, Recipe, override, recipe_from
from groundcli.weights.elmo_allennlp import AllenNlpElmo, load_allennlp_elmo
from groundcli.weights.elmo_files import load_elmo, load_options, options_path
from groundcli.weights.files import SHIPPED, find, find_model, kind_of, sha256, store
from groundcli.weights.published import PUBLISHED

UNTRAINED = "untrained"  # in a checkpoint's metadata: the seed of its random frozen parts


@dataclass(frozen=True)
class Loaded:
    """A model with what its checkpoint says of itself."""

    model: GroundingModel
    recipe: Recipe
    metadata: Mapping[str, Any]
    path: Path

    @property
    def untrained(self) -> bool:
        """Whether the CNN and the ELMo below it are random: its points mean nothing."""
        return UNTRAINED in self.metadata

    @property
    def name(self) -> str:
        """Short where it ships or is in the store, else its path."""
        return self.path.stem if self.path.parent in (SHIPPED, store()) else str(self.path)


def load_backbone(config: ModelConfig) -> Backbone:
    """The frozen CNN with its weights. Raises GroundcliError naming the file where they don't fit."""
    backbone, path = Backbone(config.visual), find(config.visual.weights)
    try:
        missing, _ = backbone.network.load_state_dict(load_file(path), strict=False)
    except (RuntimeError, SafetensorError, OSError) as error:
        raise GroundcliError(f"{path}: not the weights of {config.visual.backbone}: {first_line(error)}") from None
    lacking = [name for name in missing if not name.endswith("num_batches_tracked")]
    if lacking:
        raise GroundcliError(f"{path}: not the weights of {config.visual.backbone}: has no {lacking[0]}")
    backbone.fold()
    return backbone


def load_text(config: ModelConfig) -> TextEncoders:
    """The frozen text encoders: a folder is an ELMo (one at most), a file a table of word pieces."""
    paths = [find(name) for name in config.text.encoders]
    load = load_elmo if config.text.elmo_backend == "groundcli" else load_allennlp_elmo
    return _text_encoders(config, [load(path) if path.is_dir() else load_word_pieces(path) for path in paths])


def _text_encoders(config: ModelConfig, encoders: Sequence[Elmo | AllenNlpElmo | WordPieces]) -> TextEncoders:
    elmos = [encoder for encoder in encoders if not isinstance(encoder, WordPieces)]
    tables = [encoder for encoder in encoders if isinstance(encoder, WordPieces)]
    if len(elmos) > 1:
        raise UsageError(f"text.encoders: {', '.join(config.text.encoders)} name more than one ELMo")
    if config.text.bilstm:
        return TextEncoders(None, [*map(Characters, elmos), *tables])
    return TextEncoders(elmos[0] if elmos else None, tables)


def load_word_pieces(path: Path) -> WordPieces:
    """A table of word pieces. Raises GroundcliError."""
    if kind_of(path) != "words":
        raise GroundcliError(f"{path}: not a table of word pieces")
    with safe_open(path, framework="pt") as file:
        return WordPieces(file.get_tensor("table"), json.loads(file.metadata()["pieces"]))


def new_model(config: ModelConfig, untrained: int | None = None) -> tuple[GroundingModel, dict[str, str]]:
    """A model whose mappings are random, and the hashes of its frozen parts by their names.

    Args:
        config: the model.
        untrained: a seed to draw the CNN and the ELMo from, instead of reading their weights.

    Raises:
        GroundcliError: frozen weights are missing or don't fit.
    """
    names = [config.visual.weights, *config.text.encoders]
    if untrained is None:
        model = GroundingModel(config, load_backbone(config), load_text(config))
        return model, {name: sha256(find(name)) for name in names}
    if config.text.elmo_backend != "groundcli":
        raise UsageError("model.text.elmo_backend=allennlp reads an ELMo from its files; untrained there are none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(untrained)
        backbone = Backbone(config.visual)
        sizes = [_elmo_sizes(name) for name in config.text.encoders]
        encoders = [
            Elmo(size) if size else load_word_pieces(find(name))
            for name, size in zip(config.text.encoders, sizes, strict=True)
        ]
    drawn = {name: f"random {_digest(e)}" for name, e, size in zip(names[1:], encoders, sizes, strict=True) if size}
    read = {name: sha256(find(name)) for name, size in zip(names[1:], sizes, strict=True) if not size}
    frozen = {names[0]: f"random {_digest(backbone)}", **drawn, **read}
    backbone.fold()
    return GroundingModel(config, backbone, _text_encoders(config, encoders)), frozen


def _elmo_sizes(name: str) -> ElmoConfig | None:
    """The sizes of an ELMo, whether or not its weights are here; None for a table of word pieces."""
    if name in PUBLISHED:
        return PUBLISHED[name].elmo
    path = find(name)
    return load_options(options_path(path)) if path.is_dir() else None


def _digest(module: nn.Module) -> str:
    """Hash of a module's values."""
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.detach().contiguous().numpy())
    return digest.hexdigest()


def load_model(name: str, settings: Sequence[str] = ()) -> Loaded:
    """A trained model by its weights' name, checkpoint file or run folder.

    Args:
        name: of the weights.
        settings: `key.key=value` over its checkpoint's recipe, such as `model.text.elmo_backend=allennlp`.

    Raises:
        GroundcliError: no such weights, not a checkpoint, or it stands on other frozen weights than those here.
    """
    path = find_model(name)
    tensors, metadata = checkpoint.load(path)
    if "recipe" not in metadata:
        raise GroundcliError(f"{path}: a part of a model, not a model; shipped models are listed by `weights list`")
    recipe = override(recipe_from(metadata["recipe"], str(path)), settings, str(path))
    model, frozen = new_model(recipe.model, metadata.get(UNTRAINED))
    for part, digest in metadata["frozen"].items():
        if frozen.get(part) == digest:
            continue
        if digest.startswith("random"):
            raise GroundcliError(
                f"{path}: its random {part} comes out otherwise with this version of torch; train anew"
            )
        raise GroundcliError(f"{path}: was trained on other weights {part} than {find(part)}; put those back")
    try:
        model.load_trained(checkpoint.part("model", tensors))
    except RuntimeError as error:
        raise GroundcliError(f"{path}: its tensors don't fit its recipe: {first_line(error)}") from None
    return Loaded(model.eval(), recipe, metadata, path)
