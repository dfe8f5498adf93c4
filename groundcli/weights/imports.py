"""Weights from their original files into the store.

What weights are is told by their content. Nothing but plain tensors is unpickled.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError, first_line
from groundcli.files import megabytes, sha256
from groundcli.model.visual import whole_backbone
from groundcli.recipe import recipe_from
from groundcli.weights.elmo import read_elmo
from groundcli.weights.load import check_finite
from groundcli.weights.store import (
    NAME,
    OPTIONS,
    PARTIAL,
    PUBLISHED,
    SHIPPED,
    WEIGHTS,
    Published,
    find,
    hash_of,
    kind_of,
    store,
    weights_in,
)

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".hdf5")  # of files that are looked for in a folder
COUNT = "num_batches_tracked"  # how names of tensors end that only training needs
VOCABULARY, WORDS = "vocab.txt", "model.safetensors"  # the two files of a word-piece model


@dataclass(frozen=True)
class Imported:
    """What was put into the store."""

    name: str  # what recipes and commands call it
    what: str  # what it is, for people
    path: Path  # its file or folder
    needs: tuple[str, ...] = ()  # of a trained model, why its frozen parts can't be found, if they can't

    def __str__(self) -> str:
        return f"{self.name}: {self.what}, {megabytes(self.path):.1f} MB, SHA-256 {hash_of(self.path)}, in {self.path}"


def import_weights(source: Path, name: str = "") -> Imported:
    """Puts weights into the store.

    Args:
        source: a backbone's PyTorch or safetensors file, an ELMo's HDF5 file with its options beside it, the folder of
            a word-piece model, a groundcli checkpoint, or a folder that holds one of these somewhere beneath.
        name: what to call it; by default what it was published as, or a checkpoint's file name.

    Raises:
        GroundcliError: the file is missing, damaged, or none of these.
        UsageError: the name can't be used.
    """
    path = _one_in(source)
    _check_published(path, name)
    if path.is_dir():
        return _import_words(path, name)
    form = _form(path)
    if form == "HDF5":
        return _import_elmo(path, name)
    if form == "safetensors" and kind_of(path) == "model":
        return _import_model(path, name)
    return _import_backbone(path, name)


def _one_in(source: Path) -> Path:
    """The one file of weights that a path leads to, or the folder of a word-piece model."""
    if not source.exists():
        raise GroundcliError(f"{source}: no such file or folder")
    if (source / OPTIONS).is_file() and (source / WEIGHTS).is_file():
        return source / WEIGHTS
    files = [p for p in sorted(source.rglob("*")) if p.suffix in SUFFIXES and p.is_file()]
    files = [p for p in files if p.name != "pytorch_model.bin" or not p.with_name(WORDS).is_file()]  # the same twice
    found: dict[Path, Path] = {}  # by what a link leads to: a cache's revisions may share a file
    for file in [source] if source.is_file() else files:
        is_words = file.name == WORDS and file.with_name(VOCABULARY).is_file()
        found[file.resolve()] = file.parent if is_words else file
    if not found:
        raise GroundcliError(f"{source}: holds no file of weights ({', '.join(SUFFIXES)})")
    one, *others = found.values()
    if others:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        some = ", ".join(map(str, [one, *others[:4]]))
        raise GroundcliError(f"{source}: holds several weights: {some}{more}; name one")
    return one


def _check_published(file: Path, name: str) -> None:
    """Refuses a file that is called as a published one and isn't it. On the Hugging Face hub all are called alike."""
    for part in PUBLISHED.values():
        called = file.name == part.file and (file.name != WORDS or name == part.name)
        if called and part.sha256 and not sha256(file).startswith(part.sha256):
            raise GroundcliError(
                f"{file}: damaged: its SHA-256 is {sha256(file)}, {part.source} published it with one that begins "
                f"with {part.sha256}; download it again"
            )


def _form(file: Path) -> str:
    """The format of a file by its first bytes: HDF5, safetensors or PyTorch."""
    with file.open("rb") as opened:
        head = opened.read(9)
    if not head:
        raise GroundcliError(f"{file}: the file is empty (0 bytes)")
    if head.startswith(b"\x89HDF"):
        return "HDF5"
    if head[8:] == b"{":
        return "safetensors"
    if head.startswith((b"PK", b"\x80")):
        return "PyTorch"
    raise GroundcliError(f"{file}: not weights: neither a PyTorch file, a safetensors file nor an ELMo's HDF5 file")


def _stored(name: str, what: str, write: Callable[[Path], object], fits: Sequence[Published] = ()) -> Imported:
    """Puts what is written to a path into the store, as the file or folder of a name, once it is whole.

    A name of a published part is kept for what `fits` it, and what has that name is written over, as it may be damaged.
    Raises UsageError where the name can't be used, or is that of something else in the store, GroundcliError where the
    store can't be written.
    """
    folder = store()
    if not NAME.fullmatch(name) or name.endswith(PARTIAL):
        raise UsageError(f"--name {name}: expected a plain name of letters, digits, '.', '-' and '_'")
    if name in weights_in(SHIPPED) and folder.resolve() != SHIPPED.resolve():
        raise UsageError(f"{name}: ships with groundcli and would hide what you import; choose another --name")
    if name in PUBLISHED and PUBLISHED[name] not in fits:
        raise UsageError(f"--name {name}: is the name of {PUBLISHED[name].source}, and this isn't it; choose another")
    path = folder / f"{name}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(PARTIAL, dir=folder) as partial:
            new = Path(partial, "new")
            write(new)
            old = path if path.exists() else folder / name
            if name not in PUBLISHED and old.exists() and hash_of(old) != hash_of(new):
                raise UsageError(f"--name {name}: holds something else, {old}; choose another, or remove that first")
            shutil.rmtree(folder / name, ignore_errors=True)  # an ELMo of this name
            if new.is_dir():
                path.unlink(missing_ok=True)
                path = folder / name
            new.replace(path)
    except OSError as error:
        raise GroundcliError(f"{folder}: can't be written ({error.strerror or error})") from None
    return Imported(name, what, path)


# --- Backbones


def _import_backbone(file: Path, name: str) -> Imported:
    part, tensors = match_backbone(read_tensors(file), file)
    check_finite(file, tensors)
    name = name or part.name
    _check_published(file, name)  # now that it is known what it would be called
    what = f"backbone {part.backbone}, {len(tensors)} tensors"
    return _stored(name, what, lambda path: checkpoint.write_tensors(path, tensors), [part])


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, or of a PyTorch file: bare, or as the `state_dict` or `model` of a checkpoint.

    Raises GroundcliError where the file is damaged, or holds other things than plain tensors.
    """
    form = _form(file)
    try:
        if form == "safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        what = "safetensors file" if form == "safetensors" else "PyTorch file of plain tensors"
        raise GroundcliError(f"{file}: not a whole {what} ({first_line(error)})") from None
    named = loaded if isinstance(loaded, Mapping) else {}
    named = next((named[key] for key in ("state_dict", "model") if isinstance(named.get(key), Mapping)), named)
    tensors = {str(key): tensor for key, tensor in named.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise GroundcliError(f"{file}: a PyTorch file, but holds no named tensors")
    return {name.removeprefix("module."): tensor.detach() for name, tensor in tensors.items()}


def match_backbone(tensors: Mapping[str, Tensor], file: Path) -> tuple[Published, dict[str, Tensor]]:
    """The published backbone that tensors belong to, and its tensors by the names of timm or torchvision.

    Files of other packages name the same tensors otherwise; where names differ, tensors are matched in order. Raises
    GroundcliError where they fit none of the published backbones.
    """
    given = {k: t for k, t in tensors.items() if not k.endswith(COUNT)}
    known = [part for part in PUBLISHED.values() if part.backbone]
    nearest = (0, "their names are of none of these")
    for part in known:
        with torch.device("meta"):
            state = whole_backbone(str(part.backbone)).state_dict()
        expected = {k: t.shape for k, t in state.items() if not k.endswith(COUNT)}
        renamed = not expected.keys() & given.keys() and len(expected) == len(given)
        named = dict(zip(expected, given.values(), strict=True)) if renamed else given
        fitted = {k: named[k] for k in expected if k in named}
        # A classifier converted from TensorFlow has a class more, its first; the others are ImageNet's 1000.
        more = [k for k, t in fitted.items() if expected[k][:1] == (1000,) and t.shape == (1001, *expected[k][1:])]
        fitted |= {k: fitted[k][1:] for k in more}
        wrong = [k for k, shape in expected.items() if k not in fitted or fitted[k].shape != shape]
        if not wrong:
            return part, {k: t.contiguous() for k, t in fitted.items()}
        first = wrong[0]
        is_there = f"has shape {tuple(fitted[first].shape)}" if first in fitted else "is missing"
        reason = f"nearest is {part.backbone}, of which {first} {is_there}; expected is {tuple(expected[first])}"
        nearest = max(nearest, (len(expected) - len(wrong), reason))
    names = ", ".join(str(part.backbone) for part in known)
    raise GroundcliError(f"{file}: its {len(given)} tensors fit none of the backbones {names}: {nearest[1]}")


# --- ELMos and word pieces


def _import_elmo(file: Path, name: str) -> Imported:
    beside = file.name.removesuffix("weights.hdf5") + OPTIONS  # AllenNLP's pairs: X_weights, X_options
    options = next((p for p in (file.with_name(beside), file.with_name(OPTIONS)) if p.is_file()), None)
    if options is None:
        raise GroundcliError(f"{file}: an ELMo needs its options; put {beside} or {OPTIONS} beside this file")
    config = read_elmo(options, file).config
    fits = [part for part in PUBLISHED.values() if part.elmo == config]
    as_called = [part.name for part in fits if part.name.endswith("5.5b") == ("5.5B" in file.name)]
    if not name and not as_called:
        raise UsageError(f"{file}: an ELMo of other sizes than the published ones; add --name NAME")

    def write(folder: Path) -> None:
        folder.mkdir()
        shutil.copyfile(options, folder / OPTIONS)
        shutil.copyfile(file, folder / WEIGHTS)

    what = f"ELMo of {config.layers} layers, {2 * config.projection} wide"
    return _stored(name or as_called[0], what, write, fits)


def _import_words(folder: Path, name: str) -> Imported:
    """Keeps the input table of a BERT-like model, centred and scaled."""
    try:
        pieces = (folder / VOCABULARY).read_text("utf-8").splitlines()
        with safe_open(folder / WORDS, framework="pt") as file:
            names = [n for n in file.keys() if n.endswith("word_embeddings.weight")]  # noqa: SIM118 - not a mapping
            if not names:
                raise GroundcliError(f"{folder / WORDS}: has no word_embeddings.weight; expected a BERT-like model")
            table = file.get_tensor(names[0]).float()
    except (OSError, UnicodeDecodeError, SafetensorError) as error:
        raise GroundcliError(f"{folder}: not a word-piece model's folder ({first_line(error)})") from None
    if len(pieces) != len(table):
        raise GroundcliError(f"{folder}: {VOCABULARY} has {len(pieces)} pieces, the table {len(table)} vectors")
    if "[UNK]" not in pieces:
        raise GroundcliError(f"{folder}: {VOCABULARY} has no piece [UNK]; expected the one of a BERT-like model")
    check_finite(folder / WORDS, {names[0]: table})
    table = table - table.mean(0)
    kept, known = {"table": (table / table.std()).half()}, PUBLISHED["minilm_words"]
    what, metadata = f"table of {len(pieces)} word pieces", {"pieces": json.dumps(pieces)}
    return _stored(name or known.name, what, lambda path: checkpoint.write_tensors(path, kept, metadata), [known])


# --- Trained models


def _import_model(file: Path, name: str) -> Imported:
    tensors, metadata = checkpoint.load_trained(file)
    check_finite(file, tensors)
    recipe_from(metadata["recipe"], str(file))
    needs = []
    for part in (part for part, digest in metadata["frozen"].items() if not digest.startswith("random")):
        try:
            find(part)
        except GroundcliError as error:
            needs.append(str(error))
    what = f"trained model; {metadata.get('source', '')}"
    return replace(_stored(name or file.stem, what, partial(shutil.copyfile, file)), needs=tuple(needs))
