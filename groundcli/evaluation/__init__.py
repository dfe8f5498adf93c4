"""How well a model points: a row per phrase and system, and numbers made of them. Here is what `eval` can be told."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from groundcli.errors import UsageError
from groundcli.options import ModelOptions, option

Protocol = Literal["default", "authors"]
Encode = Literal["caption", "phrase"]
DataSet = Literal["flickr30k", "coco", "coco_categories", "referit", "visual_genome", "folder"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ModelOptions):
    """What `eval` can be told."""

    called = "eval"

    dataset: DataSet = option("The data set, in the layout that it is published in; folder: images and a COCO file.")
    data: Path = option("The data set's folder.")
    split: str = option("Name of a list of images; a folder's NAME.json.", "val")
    compare: str = option("Other weights, to print the paired difference from.", "")
    predictions: Path | None = option(
        "Evaluate the points or boxes of any model in this file (JSON lines or COCO), not --weights.", None
    )
    protocol: Protocol = option("Which phrases count; `authors` filters as their code does.", "default")
    tolerance: float = option("Pixels that a point may lie outside its box.", 0.0, min=0)
    encode: Encode = option("Whether phrases are read in their caption, or alone.", "caption")
    absent: bool = option(
        "Also ask for as many phrases that aren't in the image: does the score tell them apart?", True
    )
    ablations: bool = option("Also single levels, other fusions, sentences.", False)
    boxes: Literal["extents", "sides", "authors"] | None = option(
        "How boxes are got: extents, how likely the thing covers a place (where the weights know that); sides, a "
        "share of the heat for each side; or authors, as the paper does. Default: extents; authors by their protocol.",
        None,
    )
    json: Path | None = option("Also write all numbers to this file.", None)
    markdown: Path | None = option("Also write the tables as Markdown to this file.", None)
    rows: Path | None = option(
        "Also write the table behind the numbers, a row per phrase and system: a .csv or .parquet file.", None
    )
    report: Path | None = option("Also write a page to look at, with the worst and best cases, to this folder.", None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.boxes is None:
            object.__setattr__(self, "boxes", "authors" if self.protocol == "authors" else "extents")
        if self.predictions and (self.ablations or self.encode == "phrase"):
            raise UsageError("--predictions: --ablations and --encode phrase need --weights instead")
        if self.predictions and self.weights != type(self).weights:
            raise UsageError("--predictions and --weights: whose answers? Leave one out, or name weights by --compare")
        if self.ablations and self.runtime == "onnx":
            raise UsageError("--ablations: an export is of one way to fuse levels; leave --runtime out")
        files = [path.absolute() for path in (self.json, self.markdown, self.rows) if path]
        if len({*files}) < len(files):
            raise UsageError("--json, --markdown, --rows: two of them are one file; name several")
        if self.rows and self.rows.suffix not in (".csv", ".parquet"):
            raise UsageError(f"--rows {self.rows}: expected a name that ends in .csv or .parquet")
        if self.rows and self.rows.suffix == ".parquet" and not find_spec("pyarrow"):
            raise UsageError(f"--rows {self.rows}: needs pyarrow; install it with: pip install 'groundcli[parquet]'")


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(ModelOptions):
    """What `calibrate` can be told."""

    dataset: tuple[DataSet, ...] = option("Name of a data set with boxes, for each folder in turn.")
    data: tuple[Path, ...] = option("The data set's folder; several to fit to all of them.")
    split: str = option("Name of a list of images; a folder's NAME.json.", "val")
    out: Path = option("The .safetensors file to write: the weights, with scores that are probabilities.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.dataset) not in (1, len(self.data)):
            raise UsageError(f"{len(self.dataset)} --dataset for {len(self.data)} folders; expected one per folder")
        if self.out.suffix != ".safetensors":
            raise UsageError(f"--out {self.out}: expected a name that ends in .safetensors")
        if self.out.exists():
            raise UsageError(f"--out {self.out}: exists; name another file")
        if self.runtime == "onnx":
            raise UsageError("--runtime onnx: what is fitted is computed by torch; leave it out")

    @property
    def sources(self) -> list[tuple[DataSet, Path]]:
        """Each folder with the name of its data set."""
        return [*zip(self.dataset * (len(self.data) // len(self.dataset)), self.data, strict=True)]
