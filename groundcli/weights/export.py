"""A trained model -> one file to share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError
from groundcli.recipe import recipe_from
from groundcli.weights.files import PARTIAL, SHIPPED, entries, find, find_model, here, sha256
from groundcli.weights.published import PUBLISHED

SHARED = ("recipe", "frozen", "source", "version", "epoch", "accuracy", "best", "vocabulary", "untrained")


@dataclass(frozen=True)
class Exported:
    """What was written: the frozen parts below the model, each with how one comes by it."""

    path: Path
    parts: Mapping[str, str]


def export(run: str, out: Path) -> Exported:
    """Writes the trained tensors of a model with its recipe; no optimizer, and no path of this machine.

    Args:
        run: a run's folder, a checkpoint, or a name.
        out: a .safetensors file.

    Raises:
        GroundcliError: not a trained model, or it stands on weights that have no name.
        UsageError: `out` is another file already.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: expected a name that ends in .safetensors")
    path = find_model(run)
    trained, metadata = checkpoint.load_trained(path)
    shared = _with_names({key: metadata[key] for key in SHARED if key in metadata}, path)
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_name(out.name + PARTIAL)
    try:
        checkpoint.save(new, checkpoint.prefixed("model", trained), shared)
        if out.exists() and sha256(out) != sha256(new):
            raise UsageError(f"--out {out}: exists and holds something else; name another file")
        new.replace(out)
    finally:
        new.unlink(missing_ok=True)
    return Exported(out, {part: _way(part, digest) for part, digest in shared["frozen"].items()})


def _with_names(metadata: dict[str, Any], path: Path) -> dict[str, Any]:
    """Metadata whose frozen parts are all called by names: a path becomes the name under which it is here."""
    recipe_from(metadata["recipe"], str(path))
    visual, text = metadata["recipe"]["model"]["visual"], metadata["recipe"]["model"]["text"]
    names = {part: _name(part, metadata["frozen"][part], path) for part in (visual["weights"], *text["encoders"])}
    visual["weights"] = names[visual["weights"]]
    text["encoders"] = [names[part] for part in text["encoders"]]
    return metadata | {"frozen": {names[part]: digest for part, digest in metadata["frozen"].items()}}


def _name(part: str, digest: str, path: Path) -> str:
    if part in PUBLISHED or part in here():
        return part
    for name, file in here().items():
        if sha256(file) == digest:
            return name
    raise GroundcliError(
        f"{path}: stands on {part}, a path that nobody else has; give it a name first: "
        f"`groundcli weights import {part} --name NAME`"
    )


def _way(part: str, digest: str) -> str:
    if digest.startswith("random"):
        return "random, needs no file"
    if part in entries(SHIPPED):
        return "ships"
    if part in PUBLISHED:
        return f"groundcli weights fetch {part}"
    return f"send it too, with groundcli weights import: {find(part)}"
