"""Whether weights are what they should be, and work."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from groundcli import checkpoint
from groundcli.errors import GroundcliError, first_line
from groundcli.files import megabytes
from groundcli.weights.elmo_files import load_elmo
from groundcli.weights.files import find, find_model, kind_of, sha256
from groundcli.weights.imports import match_cnn, read_tensors
from groundcli.weights.inventory import recipes
from groundcli.weights.load import load_backbone, load_model, load_word_pieces

CAPTION = ["a", "brown", "dog", "runs"]


@dataclass(frozen=True)
class Check:
    """One check: what was looked at, and what was found."""

    what: str
    result: str
    ok: bool = True


def verify(name: str) -> Iterator[Check]:
    """Checks weights by their name or path, one thing after the other; a check that fails is the last."""
    try:
        path = find(name)
        kind = kind_of(path)
        path = find_model(name) if kind == "model" else path
        yield Check("file", f"{megabytes(path):.1f} MB, {path}")
        yield Check("SHA-256", sha256(path))
        yield from {"cnn": _cnn, "elmo": _elmo, "words": _words, "model": _model}[kind](path)
    except Exception as error:  # damaged weights make other libraries raise nearly anything
        reason = str(error) if isinstance(error, GroundcliError) else f"{type(error).__name__}: {first_line(error)}"
        yield Check("failed", reason, False)


def _cnn(path: Path) -> Iterator[Check]:
    part, tensors = match_cnn(read_tensors(path), path)
    _check_finite(tensors.items())
    yield Check("tensors", f"the {len(tensors)} of CNN {part.cnn}, all finite")
    model = next(model for model in recipes().values() if model.visual.backbone == part.cnn)
    backbone = load_backbone(replace(model, visual=replace(model.visual, weights=str(path))))
    maps = backbone(_image(model.visual.image_size))
    for level, given, channels in zip(model.visual.levels, maps, backbone.channels, strict=True):
        _check_output(level, given, (1, channels, *given.shape[2:]))
    yield Check("forward pass", f"finite maps {', '.join(' x '.join(map(str, m.shape[1:])) for m in maps)}")


def _elmo(path: Path) -> Iterator[Check]:
    elmo = load_elmo(path)
    _check_finite(elmo.state_dict().items())
    yield Check("arrays", f"all of an ELMo of {elmo.config.layers} layers, {elmo.width} wide; finite")
    with torch.no_grad():
        words, sentences = elmo([CAPTION])
    for i, layer in enumerate(words):
        _check_output(f"layer {i}", layer, (len(CAPTION), elmo.width))
    for i, layer in enumerate(sentences):
        _check_output(f"sentence of layer {i + 1}", layer, (1, elmo.width))
    yield Check("forward pass", f"{len(words)} finite layers, {elmo.width} wide")


def _words(path: Path) -> Iterator[Check]:
    words = load_word_pieces(path)
    _check_finite([("table", words.table)])
    yield Check("table", f"{len(words.table)} word pieces, {words.width} wide; finite")
    _check_output("vectors", words(CAPTION), (len(CAPTION), words.width))
    yield Check("forward pass", f"finite vectors, {words.width} wide")


def _model(path: Path) -> Iterator[Check]:
    loaded = load_model(str(path))
    frozen = ", ".join(f"{part} {digest[:12]}" for part, digest in loaded.metadata["frozen"].items())
    yield Check("recipe", f"valid; its frozen parts are those that it learned on: {frozen}")
    tensors, _ = checkpoint.load_trained(path)
    _check_finite(tensors.items())
    yield Check("tensors", f"the {len(tensors)} that its recipe asks for, all finite")
    model, visual = loaded.model, loaded.recipe.model.visual
    with torch.no_grad():
        cells = model.visual_mapping(model.backbone(_image(visual.image_size)), visual.grid)[0]
    heat, scores, _ = model.ground_words(cells, model.map_words([CAPTION])[0])
    _check_output("heat", heat, (len(CAPTION), visual.grid**2))
    _check_output("scores", scores, (len(CAPTION),))
    yield Check("forward pass", f"finite heat of {visual.grid} x {visual.grid} cells a word")


def _image(side: int) -> Tensor:
    """Noise, always the same."""
    return torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def _check_finite(tensors: Iterable[tuple[str, Tensor]]) -> None:
    for name, tensor in tensors:
        if not tensor.isfinite().all():
            raise GroundcliError(f"{name} has values that are not finite")


def _check_output(name: str, output: Tensor, shape: tuple[int, ...]) -> None:
    if output.shape != shape or not output.isfinite().all():
        raise GroundcliError(f"forward pass: {name} is not finite or has shape {tuple(output.shape)}, not {shape}")
