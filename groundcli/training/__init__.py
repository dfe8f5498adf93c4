"""Training: a model from image-caption pairs, a trained one on other images, an ELMo from plain captions.

Here is what each can be told.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from groundcli.errors import UsageError
from groundcli.options import CaptionOptions, DeviceOptions, Precision, option
from groundcli.recipe import check_settings, load_recipe

FOLDER = "folder"  # what stands for a data set's name where images come from a folder of one's own


class Source(NamedTuple):
    """A data set, or a folder of images with captions."""

    dataset: str  # its name, or "folder"
    root: Path
    weight: float = 1.0  # how often per epoch each of its images is seen


@dataclass(frozen=True, kw_only=True)
class LearningOptions(DeviceOptions, CaptionOptions):
    """What `train` and `finetune` can be told."""

    dataset: tuple[str, ...] = option("Name of a data set, or folder: images with captions.")
    data: tuple[Path, ...] = option("The data set's folder; several to learn from all of them.")
    out: Path = option("The run's folder: checkpoints, metrics, cached features.")
    weight: tuple[float, ...] = option(
        "How often per epoch each image is seen, for each folder in turn; once by default.", (), min=0.001, max=1000
    )
    split: str = option("What to learn from of a data set: train, COCO's trainval, all, ...", "train")
    settings: tuple[str, ...] = option("Overrides a value of the recipe.", (), flag="--set", metavar="KEY=VALUE")
    resume: bool = option("Go on with the run in OUT, exactly where it was.", False)
    cache_features: Path | None = option("Folder of cached features, for any number of runs to share.", None)
    save_every: str = option("Save the state so often within an epoch: minutes, or steps.", "10m", metavar="10m|500")
    limit: int | None = option("Learn from the first so many images of each folder only.", None, min=2)
    evaluation: tuple[str, ...] = option(
        "Refuse images of this data set's val and test splits, too.", (), metavar="DATASET=DIR"
    )
    allow_evaluation_images: bool = option("Learn from images of evaluation splits all the same.", False)
    precision: Precision = option("auto: bf16 on a GPU that has it, else float32.", "auto")

    def __post_init__(self) -> None:
        from groundcli.data import DATASETS  # not needed for the command line's help

        super().__post_init__()
        for name in self.dataset:
            if name not in DATASETS:
                raise UsageError(f"--dataset {name}: expected {', '.join(sorted(DATASETS))}")
        if self.captions and FOLDER not in self.dataset:
            raise UsageError("--captions: data sets have their own; it goes with --dataset folder")
        folders = len(self.data)
        if len(self.dataset) not in (1, folders):
            raise UsageError(f"{len(self.dataset)} --dataset for {folders} folders; expected one, or one per folder")
        if self.split != type(self).split and {*self.dataset} == {FOLDER}:
            raise UsageError("--split: of a data set; a folder has none")
        if len(self.weight) not in (0, folders):
            raise UsageError(f"{len(self.weight)} --weight for {folders} folders; expected none, or one per folder")
        if len({(source.dataset, source.root.resolve()) for source in self.sources}) < folders:
            raise UsageError("a folder to learn from is named twice; --weight 2 shows its images twice as often")
        if not re.fullmatch(r"0*[1-9]\d{0,8}m?", self.save_every):
            raise UsageError(f"--save-every {self.save_every}: expected minutes such as 10m, or a number of steps")
        for text, source in zip(self.evaluation, self.compared, strict=True):
            if "=" not in text or source.dataset not in DATASETS or source.dataset == FOLDER:
                raise UsageError(f"--evaluation {text}: expected DATASET=DIR, such as flickr30k=data/flickr30k")

    @property
    def sources(self) -> list[Source]:
        """Where the images to learn from lie."""
        names = self.dataset * (len(self.data) // len(self.dataset))
        weights = self.weight or (1.0,) * len(self.data)
        return [Source(*source) for source in zip(names, self.data, weights, strict=True)]

    @property
    def compared(self) -> list[Source]:
        """The data sets of --evaluation."""
        return [Source(name, Path(root)) for name, _, root in (text.partition("=") for text in self.evaluation)]

    @property
    def save_interval(self) -> tuple[float, int]:
        """Seconds and steps after which the state is saved, whichever is over first; 0 is never."""
        number = int(self.save_every.removesuffix("m"))
        return (60.0 * number, 0) if self.save_every.endswith("m") else (0.0, number)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(LearningOptions):
    """What `train` can be told."""

    called = "train"

    recipe: str = option("Name of a recipe, or path of its file.", "lite")
    untrained: bool = option("Try it without weights: a random backbone and ELMo; points mean nothing.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        recipe = load_recipe(self.recipe, self.settings)  # here, as a typo is to be answered before torch is imported
        if self.untrained and recipe.model.text.elmo_backend != "groundcli":
            raise UsageError("--untrained: model.text.elmo_backend=allennlp reads an ELMo from files; there are none")


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(LearningOptions):
    """What `finetune` can be told."""

    called = "finetune"

    data: tuple[Path, ...] = option(
        "Images with captions, as annotate reads them; or data sets' folders.", argument=True
    )
    dataset: tuple[str, ...] = option(
        "Name of a data set, for each of several folders in turn. Default: folder.", (FOLDER,)
    )
    start: str = option("Name of weights, checkpoint or run folder.", "lite", flag="--from")
    train: Literal["heads", "text", "top-levels"] = option(
        "What learns: all mappings, those of the text, or those of the later levels.", "heads"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self.settings)


@dataclass(frozen=True, kw_only=True)
class PretrainElmoOptions(DeviceOptions):
    """What `pretrain-elmo` can be told; results depend on what decides."""

    captions: Path = option("Text, one tokenised caption per line; may be .gz.", argument=True)
    out: Path = option("Folder for options.json, lm_weights.hdf5 and the checkpoint.")
    sizes: Path | None = option("Sizes, as AllenNLP's options.json. Default: small.", None, flag="--options")
    epochs: int = option("Passes over the captions.", 3, min=1, decides=True)
    batch_size: int = option("Captions per step.", 128, min=1, decides=True)
    learning_rate: float = option("Adam's, at its highest.", 2e-3, min=0, max=1, decides=True)
    warmup: int = option("Steps until there.", 200, min=0, decides=True)
    dropout: float = option("Of word vectors and of each LSTM layer's output.", 0.1, min=0, max=0.9, decides=True)
    min_count: int = option("Words that come less often are one unknown word to predict.", 3, min=1, decides=True)
    held_out: int = option("Captions kept aside to measure perplexity; a tenth at most.", 2000, min=1, decides=True)
    seed: int = option("Of order, dropout and initial weights.", 0, min=0, max=2**63 - 1, decides=True)
    resume: bool = option("Go on from the last epoch in OUT.", False)
