"""Images to learn from and to judge by: data sets by their names and folders of one's own, several at once."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from groundcli.data import datasets, folder
from groundcli.data.sample import Sample
from groundcli.errors import GroundcliError
from groundcli.training.finetune import hold_out

FOLDER = "folder"
_held = cache(datasets.load)  # a split is both to judge by and to compare with


class Source(NamedTuple):
    """A data set, or a folder of images with captions.

    Attributes:
        dataset: its name, or "folder".
        root: where it lies.
        weight: how often an epoch each of its images is seen.
    """

    dataset: str
    root: Path
    weight: float = 1.0


class Data(NamedTuple):
    """What a run learns from.

    Attributes:
        samples: images to learn from.
        weights: how often an epoch each of them is seen.
        validation: images to choose the best epoch by.
        source: where all that is from, for the checkpoint's metadata.
    """

    samples: Sequence[Sample]
    weights: Sequence[float]
    validation: Sequence[Sample]
    source: str


def load(
    sources: Iterable[Source],
    split: str,
    tell: Callable[[str], None],
    *,
    limit: int | None = None,
    validate: bool = True,
    aside: int | None = None,
) -> Data:
    """The images of several sources.

    Args:
        sources: data sets and folders.
        split: of data sets, to learn from.
        tell: is given a line for each image that can't be used.
        limit: learn from the first so many images of each source only.
        validate: the data sets' split "val" is to choose the best epoch by.
        aside: some images of each folder are kept aside to choose by, drawn with this seed; None keeps none.

    Raises:
        GroundcliError: files are missing or can't be read.
        UsageError: a data set can't have such a split.
    """
    samples: list[Sample] = []
    weights: list[float] = []
    validation: list[Sample] = []
    names: list[str] = []
    for source in sources:
        learning: Sequence[Sample]
        kept: Sequence[Sample] = ()
        if source.dataset == FOLDER:
            learning, failures, *_ = folder.load([source.root])
            for failure in failures:
                tell(f"skipped {failure.path}: {failure.reason}")
            if aside is not None:
                learning, kept = hold_out(learning, aside)
        else:
            learning = datasets.load(source.dataset, source.root, split)
            if validate:
                kept = _validation(source)
        own = list(learning[:limit])
        samples += own
        weights += [source.weight] * len(own)
        validation += kept
        name = "a folder" if source.dataset == FOLDER else f"{source.dataset}, {split} split"
        names.append(f"{name}: {len(own)} images" + (f", weight {source.weight:g}" if source.weight != 1 else ""))
    return Data(samples, weights, validation, "; ".join(names))


def _validation(source: Source) -> Sequence[Sample]:
    try:
        return _held(source.dataset, source.root, "val")
    except GroundcliError as error:
        raise type(error)(f"{error}. To learn without choosing an epoch, add --set training.validate_every=0") from None


def evaluation_splits(source: Source) -> dict[str, Sequence[Sample]]:
    """The images that a data set is evaluated on, by "DATASET SPLIT", as far as they are there."""
    found: dict[str, Sequence[Sample]] = {}
    for split in ("val", "test") if source.dataset != FOLDER else ():
        with suppress(GroundcliError):  # a data set without the split, or a copy without its files
            found[f"{source.dataset} {split}"] = _held(source.dataset, source.root, split)
    return found
