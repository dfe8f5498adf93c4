"""Files of weights -> models."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError, first_line
from groundcli.heat import EVIDENCE, FEATURES
from groundcli.model.elmo import Elmo
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.text import Characters, TextEncoders, WordPieces
from groundcli.model.visual import Backbone
from groundcli.recipe import ModelConfig, VisualConfig
from groundcli.weights.elmo import AllenNlpElmo, load_elmo, load_options
from groundcli.weights.store import PUBLISHED, UNTRAINED, Checkpoint, elmo_paths, find, hash_of, kind_of, open_model


@dataclass(frozen=True, kw_only=True)
class Loaded(Checkpoint):
    """A checkpoint with its model."""

    model: GroundingModel


def load_model(name: str, settings: Sequence[str] = ()) -> Loaded:
    """A trained model by its weights' name, checkpoint file or run folder.

    Settings are `key.key=value` over its checkpoint's recipe, such as `model.text.elmo_backend=allennlp`.

    Raises:
        GroundcliError: no such weights, not a trained model, or it stands on other frozen weights than those here.
        UsageError: its recipe or the settings are wrong.
    """
    opened = open_model(name, settings)
    path, config = opened.path, opened.recipe.model
    tensors = checkpoint.part("model", load_file(path))
    model, frozen = new_model(config, opened.metadata.get(UNTRAINED))
    opened.check_frozen(frozen)
    try:
        model.load_trained(tensors)
    except RuntimeError as error:
        raise GroundcliError(f"{path}: its tensors don't fit its recipe: {first_line(error)}") from None
    check_finite(path, tensors)
    calibration, known = config.calibration, 1 + len(FEATURES) + (len(EVIDENCE) if model.presence else 0)
    if calibration and len(calibration) != known:
        raise GroundcliError(f"{path}: its calibration has {len(calibration)} numbers, not {known}; calibrate it again")
    return Loaded(**vars(opened), model=model.eval())


def new_model(config: ModelConfig, untrained: int | None = None) -> tuple[GroundingModel, dict[str, str]]:
    """A model whose mappings are random, and the hashes of its frozen parts by their names.

    Its backbone and its ELMo are read, or drawn from the seed `untrained`. Raises GroundcliError where frozen weights
    are missing or don't fit.
    """
    drawn = untrained is not None
    if drawn and config.text.elmo_backend != "groundcli":
        raise UsageError("model.text.elmo_backend=allennlp reads an ELMo from its files; untrained there are none")
    with torch.random.fork_rng(devices=[], enabled=drawn):
        if untrained is not None:
            torch.manual_seed(untrained)
        backbone = _new_backbone(config.visual) if drawn else load_backbone(config.visual)
        encoders = [_encoder(name, config.text.elmo_backend, drawn) for name in config.text.encoders]
    frozen = {}
    for name, part in zip(config.parts, [backbone, *encoders], strict=True):
        random = drawn and not isinstance(part, WordPieces)
        frozen[name] = f"random {_digest(part)}" if random else hash_of(find(name))
    backbone.fold()
    elmos = [encoder for encoder in encoders if not isinstance(encoder, WordPieces)]
    if len(elmos) > 1:
        raise UsageError(f"text.encoders: {', '.join(config.text.encoders)} name more than one ELMo")
    tables = [encoder for encoder in encoders if isinstance(encoder, WordPieces)]
    if config.text.bilstm:
        return GroundingModel(config, backbone, TextEncoders(None, [*map(Characters, elmos), *tables])), frozen
    return GroundingModel(config, backbone, TextEncoders(elmos[0] if elmos else None, tables)), frozen


def load_backbone(config: VisualConfig) -> Backbone:
    """The frozen backbone with its weights. Raises GroundcliError naming the file where they don't fit."""
    path, backbone = find(config.weights), _new_backbone(config)
    try:
        missing, _ = backbone.extractor.load_state_dict(load_file(path), strict=False)
        if lacking := [name for name in missing if not name.endswith("num_batches_tracked")]:
            raise RuntimeError(f"has no {lacking[0]}")
    except (RuntimeError, SafetensorError, OSError) as error:
        raise GroundcliError(f"{path}: not the weights of {config.backbone}: {first_line(error)}") from None
    check_finite(path, backbone.extractor.state_dict())
    return backbone


def _new_backbone(config: VisualConfig) -> Backbone:
    try:
        return Backbone(config)
    except ValueError as error:
        raise UsageError(f"model.visual.levels: {first_line(error)}") from None


def _encoder(name: str, backend: str, drawn: bool) -> Elmo | AllenNlpElmo | WordPieces:
    """A frozen text encoder; an ELMo that is drawn has random weights."""
    if drawn and name in PUBLISHED and (sizes := PUBLISHED[name].elmo):
        return Elmo(sizes)
    path = find(name)
    if not path.is_dir():
        return load_word_pieces(path)
    if drawn:
        return Elmo(load_options(elmo_paths(path)[0]))
    return load_elmo(path) if backend == "groundcli" else AllenNlpElmo(path)


def load_word_pieces(path: Path) -> WordPieces:
    """A table of word pieces. Raises GroundcliError."""
    if kind_of(path) != "words":
        raise GroundcliError(f"{path}: not a table of word pieces")
    with safe_open(path, framework="pt") as file:
        words = WordPieces(file.get_tensor("table"), json.loads(file.metadata()["pieces"]))
    check_finite(path, {"table": words.table})
    return words


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuses what would only give invented points. Raises GroundcliError, naming file and tensor."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise GroundcliError(f"{path}: {name} has values that are not finite")


def _digest(module: nn.Module) -> str:
    """Hash of a module's values."""
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.detach().contiguous().numpy())
    return digest.hexdigest()
