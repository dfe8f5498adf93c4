"""Data sets by their names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from groundcli.data import flickr30k
from groundcli.data.sample import Sample

DATASETS: Mapping[str, Callable[[Path, str], Sequence[Sample]]] = {"flickr30k": flickr30k.load}


def load(name: str, root: Path, split: str) -> Sequence[Sample]:
    """The images of a split, with captions, phrases and what true boxes there are.

    Args:
        name: of `DATASETS`.
        root: the data set's folder, in the layout that it is published in.
        split: a list of images that the data set has by this name.

    Raises:
        GroundcliError: files are missing or can't be read.
    """
    return DATASETS[name](root, split)
