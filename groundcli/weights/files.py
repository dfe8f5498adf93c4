"""Names of weights -> files."""

import hashlib
from pathlib import Path

from groundcli.errors import GroundcliError

_INSTALLED = Path(__file__).parent.parent / "_weights"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "weights"


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
