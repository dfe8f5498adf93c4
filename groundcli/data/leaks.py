"""Images of an evaluation split among those to learn from."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from groundcli.data.sample import Sample

YEAR = re.compile(r"^COCO_(?:train|val|test)\d{4}_")  # COCO's names of 2014 are those of 2017 with this before them


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
        At most one an image to learn from and a split, in the order of `learning`.
    """
    names: dict[str, dict[str, Sample]] = defaultdict(dict)
    sizes: dict[int, list[tuple[str, Sample]]] = defaultdict(list)
    for split, samples in evaluation.items():
        for sample in samples:
            names[_key(sample.image)].setdefault(split, sample)
            sizes[_size(sample.image)].append((split, sample))
    digest = cache(_digest)
    leaks: dict[tuple[int, str], Leak] = {}
    for row, sample in enumerate(learning):
        for split, same in names.get(_key(sample.image), {}).items():
            leaks[row, split] = Leak(sample.name, split, same.name, "name")
        for split, other in sizes.get(_size(sample.image), ()):
            if (row, split) not in leaks and (own := digest(sample.image)) and own == digest(other.image):
                leaks[row, split] = Leak(sample.name, split, other.name, "content")
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
        return hashlib.sha256(image.read_bytes()).hexdigest()
    except OSError:
        return ""
