"""Trained models out of the store: as one file to share, as parts for ONNX Runtime, with new calibrations."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from groundcli import checkpoint
from groundcli.data import find as images
from groundcli.data.images import decode, resize
from groundcli.errors import BadInput, GroundcliError, UsageError
from groundcli.files import replacing, sha256, write_json
from groundcli.model.extent import Extent
from groundcli.model.grounding_model import GroundingModel
from groundcli.recipe import recipe_from
from groundcli.weights.load import load_model
from groundcli.weights.store import (
    EXPORTED,
    INT8,
    PUBLISHED,
    SHIPPED,
    Checkpoint,
    find,
    find_model,
    hash_of,
    here,
    is_known,
    weights_in,
)

MEASURED = 24  # photographs by which ranges of activations are measured for int8
PARTS = ("image", "words", "heat")  # of a model, a file each in an export
# What a shared model says of itself: nothing of the machine that it was trained on.
SHARED = ("recipe", "frozen", "source", "version", "epoch", "accuracy", "best", "vocabulary", "untrained")


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
