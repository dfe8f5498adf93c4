"""Weights, of frozen parts and of trained models. Here is what the commands about them can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundcli.errors import UsageError
from groundcli.options import Options, option


@dataclass(frozen=True, kw_only=True)
class ListOptions(Options):
    """What `weights list` can be told."""

    json: bool = option("Print the list as JSON.", False)


@dataclass(frozen=True, kw_only=True)
class FetchOptions(Options):
    """What `weights fetch` can be told."""

    names: tuple[str, ...] = option("Names from `groundcli weights list`.", argument=True)


@dataclass(frozen=True, kw_only=True)
class ImportOptions(Options):
    """What `weights import` can be told."""

    source: Path = option(
        "A backbone's, ELMo's or model's file, a word-piece model's folder, or a folder above.", argument=True
    )
    name: str = option("What to call it. Default: what it was published as.", "")


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(Options):
    """What `weights verify` can be told."""

    names: tuple[str, ...] = option("Names or paths. Default: all that is here.", (), argument=True)


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """What `weights export` can be told."""

    run: str = option("A run's folder, a checkpoint, or a name.", argument=True)
    out: Path = option("The .safetensors file to write; the folder for onnx.")
    format: Literal["safetensors", "onnx"] = option(
        "safetensors: one file, to share; onnx: a folder for ONNX Runtime, on CPUs, phones and in browsers.",
        "safetensors",
    )
    int8: Path | None = option(
        "A folder of photographs, to measure by them: beside onnx's image network in float32 one in int8.", None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.int8 and self.format != "onnx":
            raise UsageError("--int8 is of --format onnx")
