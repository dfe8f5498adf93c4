"""Weights from their original files into the store, and trained models out of it, as one file to share.

What weights are is told by their content. Nothing but plain tensors is unpickled.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from groundcli import checkpoint
from groundcli.data import find as images
from groundcli.data.images import decode, resize
from groundcli.errors import BadInput, GroundcliError, UsageError, first_line
from groundcli.files import megabytes, replacing, sha256, write_json
from groundcli.model.extent import Extent
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.visual import whole_backbone
from groundcli.recipe import recipe_from
from groundcli.weights.elmo import read_elmo
from groundcli.weights.load import check_finite, load_model
from groundcli.weights.store import (
    EXPORTED,
    INT8,
    NAME,
    OPTIONS,
    PARTIAL,
    PUBLISHED,
    SHIPPED,
    WEIGHTS,
    Checkpoint,
    Published,
    find,
    find_model,
    hash_of,
    here,
    is_known,
    kind_of,
    store,
    weights_in,
)

MEASURED = 24  # photographs by which ranges of activations are measured for int8
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".hdf5")  # of files that are looked for in a folder
COUNT = "num_batches_tracked"  # how names of tensors end that only training needs
VOCABULARY, WORDS = "vocab.txt", "model.safetensors"  # the two files of a word-piece model
PARTS = ("image", "words", "heat")  # of a model, a file each in an export
# What a shared model says of itself: nothing of the machine that it was trained on.
SHARED = ("recipe", "frozen", "source", "version", "epoch", "accuracy", "best", "vocabulary", "untrained")


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

    A name of a published part is kept for what `fits` it. Raises UsageError where the name can't be used.
    """
    folder = store()
    if not NAME.fullmatch(name) or name.endswith(PARTIAL):
        raise UsageError(f"--name {name}: expected a plain name of letters, digits, '.', '-' and '_'")
    if name in weights_in(SHIPPED) and folder.resolve() != SHIPPED.resolve():
        raise UsageError(f"{name}: ships with groundcli and would hide what you import; choose another --name")
    if name in PUBLISHED and PUBLISHED[name] not in fits:
        raise UsageError(f"--name {name}: is the name of {PUBLISHED[name].source}, and this isn't it; choose another")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    with TemporaryDirectory(PARTIAL, dir=folder) as partial:
        new = Path(partial, "new")
        write(new)
        shutil.rmtree(folder / name, ignore_errors=True)  # an ELMo of this name
        if new.is_dir():
            path.unlink(missing_ok=True)
            path = folder / name
        new.replace(path)
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


def export(run: str, out: Path) -> dict[str, str]:
    """Writes the trained tensors of a model with its recipe into one file; no optimizer, and no path of this machine.

    `run` is a run's folder, a checkpoint, or a name; `out` a .safetensors file. Returns the frozen parts below the
    model, each with how one comes by it.

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
    with TemporaryDirectory(dir=out.parent) as folder:
        new = Path(folder, out.name)
        checkpoint.save(new, checkpoint.prefixed("model", trained), shared)
        if out.exists() and sha256(out) != sha256(new):
            raise UsageError(f"--out {out}: exists and holds something else; name another file")
        new.replace(out)
    return {part: _way(part, digest) for part, digest in shared["frozen"].items()}


def export_onnx(run: str, out: Path, photos: Path | None = None) -> list[Path]:
    """Writes a model's parts for ONNX Runtime into a folder, new or of an earlier export: for `OnnxRuntime` to use.

    `image.onnx` makes cells of pixels, `words.onnx` words and sentences of means of word pieces, `heat.onnx` heat maps
    of both; `image.int8.onnx` is there if there are `photos`, a folder of photographs like those that the model is
    for; `export.json` says what they were made of. Returns these files, and that of the word pieces.

    Raises:
        GroundcliError: not a trained model, its words come from more than one table of word pieces, or no photographs.
        UsageError: `out` holds something else already.
    """
    if not find_spec("onnxscript"):
        raise GroundcliError("--format onnx needs more packages; install them with: pip install 'groundcli[onnx]'")
    loaded = load_model(run)
    text = loaded.recipe.model.text
    if text.bilstm or loaded.model.text.elmo or len(text.encoders) > 1:
        raise GroundcliError(
            f"{loaded.path}: its words come from {', '.join(text.encoders)}, which can't be exported; "
            "a single table of word pieces can"
        )
    files, int8, about = [out / f"{part}.onnx" for part in PARTS], out / f"{INT8}.onnx", out / EXPORTED
    if out.exists() and not (out.is_dir() and set(out.iterdir()) <= {*files, int8, about}):
        raise UsageError(f"--out {out}: exists and is no export; name another folder")
    pixels = _some_pixels(photos, loaded.recipe.model.visual.image_size) if photos else []
    out.mkdir(parents=True, exist_ok=True)
    for old in (about, int8):  # until all are there
        old.unlink(missing_ok=True)
    for file, content in zip(files, _exported(loaded.model), strict=True):
        with replacing(file, "wb") as opened:
            opened.write(content)
    if pixels:
        _write_int8(files[0], int8, pixels)
        files.append(int8)
    write_json(about, loaded.exported)
    return [*files, about, find(text.encoders[0])]


def _some_pixels(photos: Path, side: int) -> list[np.ndarray]:
    """Photographs of a folder, spread over it, (S, S, 3) uint8 each. Raises GroundcliError if there are none."""
    samples = images.load([photos], phrases=["a photograph"]).samples
    pixels = []
    for sample in samples[:: max(1, len(samples) // MEASURED)][:MEASURED]:
        with suppress(BadInput):  # one that can't be decoded is none
            pixels.append(resize(decode(sample.image), side))
    if not pixels:
        raise GroundcliError(f"--int8 {photos}: holds no photographs")
    return pixels


def _write_int8(network: Path, out: Path, pixels: Sequence[np.ndarray]) -> None:
    """Writes a network of images anew with convolutions in int8, ranges of activations measured on some pixels.

    What stands before the first and after the last convolution, the scale of pixels and the norm of cells, stays in
    float32. Weights have a scale per channel.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inputs = ({"pixels": each} for each in pixels)
    reader = SimpleNamespace(get_next=lambda: next(inputs, None))
    with TemporaryDirectory() as folder, replacing(out, "wb") as opened:
        folded, quantized = (str(Path(folder, name)) for name in ("folded.onnx", "quantized.onnx"))
        quant_pre_process(network, folded, skip_symbolic_shape=True)  # batch norms become a part of convolutions
        nodes = onnx.load(folded).graph.node
        convolutions = [i for i, node in enumerate(nodes) if node.op_type == "Conv"]
        outside = [node.name for node in (*nodes[: convolutions[0]], *nodes[convolutions[-1] + 1 :])]
        quantize_static(
            folded, quantized, reader, op_types_to_quantize=["Conv", "Clip", "Relu", "Add"],
            nodes_to_exclude=outside, per_channel=True, activation_type=QuantType.QUInt8,
        )  # fmt: skip
        opened.write(Path(quantized).read_bytes())


def _exported(model: GroundingModel) -> Iterator[bytes]:
    """The content of the files of `PARTS`."""
    visual = model.config.visual
    words, phrases, boxed = (torch.export.Dim(name, min=1) for name in ("words", "phrases", "boxed"))

    def image(pixels: Tensor) -> Tensor:
        """Pixels (S, S, 3) uint8 RGB -> cells (L, N, D)."""
        return cast(Tensor, model.visual_mapping(model.backbone(pixels.permute(2, 0, 1).unsqueeze(0)), visual.grid)[0])

    def vectors(features: Tensor) -> tuple[Tensor, Tensor]:
        """Means of word pieces (W, E) -> words, and sentences, (K, W, D)."""
        return model.word_mapping([features]), model.sentence_mapping([features])

    def heat(
        cells: Tensor, words: Tensor, member: Tensor, naming: Tensor, last: Tensor, boxed: Tensor
    ) -> tuple[Tensor, ...]:
        """An image's cells, words, and which of them phrases are made of -> `GroundingModel.ground_phrases`."""
        return model.ground_phrases(cells, words, model.ground_words(cells, words), member, naming, last, boxed)

    pixels = torch.zeros(visual.image_size, visual.image_size, 3, dtype=torch.uint8)
    yield _onnx(model, image, {"pixels": pixels}, {}, ["cells"])
    features = torch.randn(5, model.text.word_widths[0])
    yield _onnx(model, vectors, {"features": features}, {"features": {0: words}}, ["words", "sentences"])
    member = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]])
    with torch.no_grad():
        inputs = {"cells": image(pixels).contiguous(), "words": vectors(features)[0], "member": member}
    inputs |= {"naming": member.clone()}  # one tensor twice would be one input
    inputs |= {"last": torch.tensor([1, 2, 4]), "boxed": torch.tensor([0, 2])}
    members = {0: phrases, 1: words}
    varies = {"words": {1: words}, "member": members, "naming": members, "last": {0: phrases}, "boxed": {0: boxed}}
    yield _onnx(model, heat, inputs, varies, ["maps", "scores", "levels", "evidence", "extents"])


def _onnx(
    model: nn.Module, compute: Callable[..., Any], inputs: dict[str, Tensor], varies: Any, outputs: Sequence[str]
) -> bytes:
    """An ONNX file's content, of what computes outputs of inputs of these shapes, but for dimensions that vary."""
    part = nn.Module()  # as torch exports modules, with all their weights
    part.model, part.forward = model, compute
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it tells of each step that it leaves out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names for dimensions, twice the same
        program: Any = torch.onnx.export(
            part.eval(), (), kwargs=inputs, input_names=[*inputs], output_names=outputs,
            dynamic_shapes={name: varies.get(name) for name in inputs}, dynamo=True, verbose=False,
        )  # fmt: skip
    proto = program.model_proto
    for told in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output, proto.graph):
        del told.metadata_props[:]  # the code that they come from, with paths of this machine
    return cast(bytes, proto.SerializeToString())


def _with_names(metadata: dict[str, Any], path: Path) -> dict[str, Any]:
    """Metadata whose frozen parts are all called by names: a path becomes the name under which it is here."""
    names, parts = {}, recipe_from(metadata["recipe"], str(path)).model.parts
    for part in parts:
        alike = (name for name, file in here().items() if hash_of(file) == metadata["frozen"].get(part))
        names[part] = part if is_known(part) else next(alike, "")
        if not names[part]:
            raise GroundcliError(
                f"{path}: stands on {part}, a path that nobody else has; give it a name first: "
                f"`groundcli weights import {part} --name NAME`"
            )
    model = metadata["recipe"]["model"]
    model["visual"]["weights"], *model["text"]["encoders"] = (names[part] for part in parts)
    return metadata | {"frozen": {names[part]: digest for part, digest in metadata["frozen"].items()}}


def _way(part: str, digest: str) -> str:
    if digest.startswith("random"):
        return "random, needs no file"
    if part in weights_in(SHIPPED):
        return "ships"
    if part in PUBLISHED:
        return f"groundcli weights fetch {part}"
    return f"send it too, with groundcli weights import: {find(part)}"


def write_calibrated(
    loaded: Checkpoint, extent: Extent, calibration: Sequence[float], box_calibration: Sequence[float], out: Path
) -> None:
    """Writes a checkpoint anew with an extent, and with calibrations (see `ModelConfig`) in its recipe; all else stays.

    Raises GroundcliError where it can't be written.
    """
    tensors, metadata = checkpoint.load(loaded.path)
    metadata["recipe"]["model"] |= {"calibration": list(calibration), "box_calibration": list(box_calibration)}
    tensors |= checkpoint.prefixed("model", {f"extent.{name}": tensor for name, tensor in extent.state_dict().items()})
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(out, tensors, metadata)
