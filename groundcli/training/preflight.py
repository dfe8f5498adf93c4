"""What can be known before the first step: counts, files, a few decodes, free disk, images that mustn't be here."""

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from groundcli.data.images import decode
from groundcli.data.sample import Sample
from groundcli.errors import BadInput, GroundcliError, UsageError
from groundcli.files import sha256
from groundcli.training import LearningOptions
from groundcli.training.data import Data

DECODED = 8  # images, evenly over the list
SHOWN = 3  # names in a message
YEAR = re.compile(r"^COCO_(?:train|val|test)\d{4}_")  # COCO's names of 2014 are those of 2017 with this before them


def check(data: Data, options: LearningOptions, purpose: str, tell: Callable[[str], None]) -> None:
    """Tells what is there, line by line; `purpose` is what the validation images are for.

    Raises:
        UsageError: images to learn from are of an evaluation split, and that isn't allowed.
        GroundcliError: nothing can be learned from the images.
    """
    for line in check_images(data.samples):
        tell(line)
    tell(f"{len(data.validation)} images {purpose}")
    folder = next(path for path in (options.out.absolute(), *options.out.absolute().parents) if path.exists())
    tell(f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free in {folder}")
    if not options.allow_evaluation_images:
        tell(check_leaks(data.samples, data.evaluation))


def check_images(samples: Sequence[Sample]) -> Iterator[str]:
    """Lines about the images to learn from. Raises GroundcliError where there are under two, or none can be used."""
    if len(samples) < 2:
        raise GroundcliError(f"{len(samples)} images with captions: training tells pairs apart, and needs two at least")
    missing = [sample.name for sample in samples if not sample.image.is_file()]
    if len(missing) == len(samples):
        raise GroundcliError(f"{samples[0].image}: no such file, nor any other of the {len(samples)} images")
    captions = sum(len(sample.captions) for sample in samples)
    yield f"{len(samples)} images to learn from, {captions} captions"
    if missing:
        yield f"{len(missing)} images have no file and will be skipped: {_some(missing)}"
    tried = samples[:: max(1, len(samples) // DECODED)]
    bad = []
    for sample in tried:
        try:
            decode(sample.image)
        except BadInput:
            bad.append(sample.name)
    if len(bad) == len(tried):
        raise GroundcliError(f"none of {len(tried)} images tried can be decoded: {_some(bad)}")
    yield f"decoded {len(tried) - len(bad)} of {len(tried)} images tried" + (f", not {_some(bad)}" if bad else "")


def check_leaks(samples: Sequence[Sample], evaluation: Mapping[str, Sequence[Sample]]) -> str:
    """A line about the evaluation splits, none of whose images, by name or by content, are among those to learn from.

    Raises:
        UsageError: some are.
    """
    if not evaluation:
        return "compared with no evaluation data; --evaluation DATASET=DIR names some"
    leaks = shared_images(samples, evaluation)
    if leaks:
        splits = ", ".join(dict.fromkeys(leak.split for leak in leaks))
        raise UsageError(
            f"{len(leaks)} images to learn from are also in {splits}: {_some([leak.learned for leak in leaks])}; "
            "numbers on it would mean nothing. Remove them, or add --allow-evaluation-images"
        )
    compared = ", ".join(f"{split} ({len(held)} images)" for split, held in evaluation.items())
    return f"no image to learn from is in {compared}"


class Leak(NamedTuple):
    """An image that is in both.

    Attributes:
        learned: its name among those to learn from.
        split: the evaluation split.
        evaluated: its name there.
        by: what is equal, "name" or "content".
    """

    learned: str
    split: str
    evaluated: str
    by: str


def shared_images(learning: Sequence[Sample], evaluation: Mapping[str, Sequence[Sample]]) -> list[Leak]:
    """Images to learn from that evaluation splits hold too, by the names of their files or by their bytes.

    Names are compared without folders, suffix and case, and COCO's of 2014 are equal to those of 2017. Contents are
    compared by SHA-256, of files of equal size only. A copy under another name that was scaled or saved anew isn't
    noticed. Files that can't be read share nothing but their names.

    Args:
        learning: images to learn from.
        evaluation: images by the name of their split, "flickr30k val".

    Returns:
        At most one per image to learn from and split, in the order of `learning`.
    """
    names: dict[str, dict[str, Sample]] = defaultdict(dict)
    sizes: dict[int, list[tuple[str, Sample]]] = defaultdict(list)
    for split, samples in evaluation.items():
        for sample in samples:
            names[_key(sample.image)].setdefault(split, sample)
            sizes[_size(sample.image)].append((split, sample))
    digest = cache(_digest)
    leaks: dict[tuple[int, str], Leak] = {}
    for index, sample in enumerate(learning):
        for split, same in names.get(_key(sample.image), {}).items():
            leaks[index, split] = Leak(sample.name, split, same.name, "name")
        for split, other in sizes.get(_size(sample.image), ()):
            if (index, split) not in leaks and (mine := digest(sample.image)) and mine == digest(other.image):
                leaks[index, split] = Leak(sample.name, split, other.name, "content")
    return list(leaks.values())


def _key(image: Path) -> str:
    return YEAR.sub("", image.stem).casefold()


def _size(image: Path) -> int:
    try:
        return image.stat().st_size
    except OSError:
        return -1


def _digest(image: Path) -> str:
    try:
        return sha256(image)
    except OSError:
        return ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
