"""Names of weights -> files."""

import hashlib
import os
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from safetensors import SafetensorError, safe_open

from groundcli.errors import GroundcliError, first_line
from groundcli.weights.elmo_files import OPTIONS, elmo_paths
from groundcli.weights.published import PUBLISHED

_INSTALLED = Path(__file__).parent.parent / "_weights"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "weights"
PARTIAL = ".partial"  # the end of names of what isn't whole yet
BEST = "best.safetensors"  # the model in a run's folder

Kind = Literal["cnn", "elmo", "words", "model"]


def store() -> Path:
    """Folder of what users fetch and import: `GROUNDCLI_WEIGHTS`, else groundcli's own among the user's data."""
    given = os.environ.get("GROUNDCLI_WEIGHTS")
    return Path(given) if given else user_data_path("groundcli") / "weights"


def entries(folder: Path) -> dict[str, Path]:
    """All weights in the shipped folder or the store, by name."""
    elmos = {p.parent.name: p.parent for p in folder.glob(f"*/*{OPTIONS}") if not p.parent.name.endswith(PARTIAL)}
    return dict(sorted((elmos | {p.stem: p for p in folder.glob("*.safetensors")}).items()))


def here() -> dict[str, Path]:
    """All weights that ship or are in the store, by name; of two of one name, the one that ships."""
    return entries(store()) | entries(SHIPPED)


def find(name: str) -> Path:
    """The file or folder of weights, by their name or path. Raises GroundcliError that says how to get them."""
    found = here()
    if name in found:
        return found[name]
    if name and Path(name).exists():
        return Path(name)
    if name not in PUBLISHED:
        known = f"here are {', '.join(found)}; {', '.join(fetchable())} can be fetched"
        raise GroundcliError(f"{name}: no weights of this name and no such file; {known}")
    if not PUBLISHED[name].urls:
        raise GroundcliError(f"{name}: ships with groundcli, but is not in {SHIPPED}; install groundcli again")
    raise GroundcliError(f"{name}: not here; run `groundcli weights fetch {name}`, or {PUBLISHED[name].by_hand}")


def find_model(name: str) -> Path:
    """The file of a trained model, by its name or path, or by its run's folder. Raises GroundcliError as `find`."""
    path = find(name)
    return path / BEST if path.is_dir() else path


def fetchable() -> list[str]:
    """Names of the published weights that don't ship."""
    return [part.name for part in PUBLISHED.values() if part.urls]


def kind_of(path: Path) -> Kind:
    """What weights are, by their file's metadata. Raises GroundcliError where it isn't a whole safetensors file."""
    if path.is_dir():
        return "model" if (path / BEST).is_file() else "elmo"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise GroundcliError(f"{path}: not a whole safetensors file ({first_line(error)})") from None
    return "model" if "groundcli" in metadata else "words" if "pieces" in metadata else "cnn"


def sha256(path: Path) -> str:
    """Hash of a file; of an ELMo's folder, that of its weights."""
    digest = hashlib.sha256()
    with (elmo_paths(path)[1] if path.is_dir() else path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
