"""What recipes need, and which of it is here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from groundcli import checkpoint
from groundcli.errors import GroundcliError
from groundcli.files import megabytes
from groundcli.recipe import RECIPES, ModelConfig, load_recipe
from groundcli.weights.files import SHIPPED, entries, here, kind_of
from groundcli.weights.published import PUBLISHED, Published

WHAT = {"cnn": "CNN", "elmo": "ELMo", "words": "word pieces", "model": "model"}


@dataclass(frozen=True)
class Row:
    """One entry of the list.

    Attributes:
        name: of the weights.
        what: CNN, ELMo, word pieces or model.
        used_by: the recipes that name it.
        here: `ships`, `store` or `missing`.
        megabytes: size of its files, or of the download where it is missing.
        licence: of the weights; a trained model's follows the data that it learned from.
        source: who published it and where, or what it learned from.
    """

    name: str
    what: str
    used_by: tuple[str, ...]
    here: str
    megabytes: float
    licence: str
    source: str


def recipes() -> dict[str, ModelConfig]:
    """The models of all recipes, by name."""
    return {path.stem: load_recipe(path.stem).model for path in sorted(RECIPES.glob("*.toml"))}


def inventory() -> list[Row]:
    """All published parts, then whatever else ships or is in the store."""
    users: dict[str, list[str]] = {}
    for recipe, model in recipes().items():
        for part in (model.visual.weights, *model.text.encoders):
            users.setdefault(part, []).append(recipe)
    found = here()
    published = [_published_row(part, users, found) for part in PUBLISHED.values()]
    return published + [_other_row(name, users, path) for name, path in found.items() if name not in PUBLISHED]


def _published_row(part: Published, users: Mapping[str, list[str]], found: Mapping[str, Path]) -> Row:
    path = found.get(part.name)
    size = megabytes(path) if path else part.megabytes
    host = f"; {urlsplit(part.urls[0]).hostname}" if part.urls else ""
    return _row(part.name, WHAT[part.kind], users, path, size, part.licence, part.source + host)


def _other_row(name: str, users: Mapping[str, list[str]], path: Path) -> Row:
    try:
        kind = kind_of(path)
    except GroundcliError:
        return _row(name, "damaged", users, path, megabytes(path), "", "")
    if kind != "model":
        return _row(name, WHAT[kind], users, path, megabytes(path), "", "imported")
    source = checkpoint.load(path)[1].get("source", "")
    return _row(name, WHAT[kind], users, path, megabytes(path), "its data's", source)


def _row(
    name: str, what: str, users: Mapping[str, list[str]], path: Path | None, size: float, licence: str, source: str
) -> Row:
    place = "missing" if path is None else "ships" if name in entries(SHIPPED) else "store"
    return Row(name, what, tuple(users.get(name, ())), place, size, licence, source)
