"""What recipes need and which of it is here; and whether it is what it should be, and works."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor

from groundcli import checkpoint
from groundcli.errors import GroundcliError, first_line
from groundcli.files import megabytes
from groundcli.recipe import RECIPES, ModelConfig, load_recipe
from groundcli.weights.elmo import load_elmo
from groundcli.weights.imports import match_backbone, read_tensors
from groundcli.weights.load import load_backbone, load_model, load_word_pieces
from groundcli.weights.store import PUBLISHED, SHIPPED, Kind, find, find_model, hash_of, here, kind_of, weights_in

WHAT = {"backbone": "backbone", "elmo": "ELMo", "words": "word pieces", "model": "model"}
CAPTION = ["a", "brown", "dog", "runs"]


@dataclass(frozen=True)
class Known:
    """Weights that are here or were published.

    A trained model's licence follows the data that it learned from; its source says which that is.
    """

    name: str
    what: str  # backbone, ELMo, word pieces or model
    used_by: tuple[str, ...]  # the recipes that name it
    here: str  # `ships`, `store` or `missing`
    megabytes: float  # of its files, or of the download where it is missing
    licence: str
    source: str  # who published it and where


def recipes() -> dict[str, ModelConfig]:
    """The models of all recipes, by name."""
    return {path.stem: load_recipe(path.stem).model for path in sorted(RECIPES.glob("*.toml"))}


def inventory() -> list[Known]:
    """All published parts, then whatever else ships or is in the store."""
    models, paths, shipped, known = recipes(), here(), weights_in(SHIPPED), []
    for name in PUBLISHED | paths:
        used_by = tuple(recipe for recipe, model in models.items() if name in model.parts)
        place = "missing" if name not in paths else "ships" if name in shipped else "store"
        size = megabytes(paths[name]) if name in paths else PUBLISHED[name].megabytes
        what, licence, source = _about(name)
        known.append(Known(name, what, used_by, place, size, licence, source))
    return known


def _about(name: str) -> tuple[str, str, str]:
    """What weights are, their licence and their source."""
    if name in PUBLISHED:
        part = PUBLISHED[name]
        what = "backbone" if part.backbone else "elmo" if part.elmo else "words"
        hosts = [str(urlsplit(url).hostname) for url in part.urls[:1]]
        return WHAT[what], part.licence, "; ".join([part.source, *hosts])
    try:
        kind = kind_of(find(name))
        if kind != "model":
            return WHAT[kind], "", "imported"
        return WHAT[kind], "its data's", str(checkpoint.about(find(name)).get("source", ""))
    except GroundcliError:
        return "damaged", "", ""


@dataclass(frozen=True)
class Check:
    """One check: what was looked at, and what it showed."""

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
        yield Check("SHA-256", hash_of(path))
        content, outputs = _run(kind, path)
        yield Check("content", f"{content}; all finite")  # what isn't is refused by what loads it
        if not all(output.isfinite().all() for output in outputs):
            raise GroundcliError("forward pass: its outputs are not finite")
        yield Check("forward pass", f"finite {', '.join(' x '.join(map(str, o.shape)) for o in outputs)}")
    except Exception as error:  # damaged weights make other libraries raise nearly anything
        reason = str(error) if isinstance(error, GroundcliError) else f"{type(error).__name__}: {first_line(error)}"
        yield Check("failed", reason, False)


@torch.no_grad()
def _run(kind: Kind, path: Path) -> tuple[str, list[Tensor]]:
    """What weights hold, and what they make of an image or a caption."""
    if kind == "backbone":
        part, tensors = match_backbone(read_tensors(path), path)
        config = next(model.visual for model in recipes().values() if model.visual.backbone == part.backbone)
        backbone = load_backbone(replace(config, weights=str(path)))
        return f"the {len(tensors)} tensors of backbone {part.backbone}", backbone(_noise(config.image_size))
    if kind == "elmo":
        elmo = load_elmo(path)
        words, sentences = elmo([CAPTION])
        return f"all arrays of an ELMo of {elmo.config.layers} layers, {elmo.width} wide", words + sentences
    if kind == "words":
        table = load_word_pieces(path)
        return f"{len(table.table)} word pieces, {table.width} wide", [table(CAPTION)]
    loaded = load_model(str(path))
    grounding, visual = loaded.model, loaded.recipe.model.visual
    cells = grounding.visual_mapping(grounding.backbone(_noise(visual.image_size)), visual.grid)[0]
    heat, scores, *_ = grounding.ground_words(cells, torch.stack(grounding.map_words([CAPTION])[0], dim=1))
    frozen = ", ".join(f"{part} {digest[:12]}" for part, digest in loaded.metadata["frozen"].items())
    return f"the {len(grounding.trained())} tensors of its recipe, which learned on {frozen}", [heat, scores]


def _noise(side: int) -> Tensor:
    """An image, always the same."""
    return torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
