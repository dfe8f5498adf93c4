"""Data sets by their names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from groundcli.data import boxed_folder, coco, flickr30k, referit, visual_genome
from groundcli.data.sample import Sample

DATASETS: Mapping[str, Callable[[Path, str], Sequence[Sample]]] = {
    "flickr30k": flickr30k.load,
    "coco": coco.load,
    "coco_categories": coco.load_categories,
    "referit": referit.load,
    "visual_genome": visual_genome.load,
    "folder": boxed_folder.load,
}


def load(name: str, root: Path, split: str) -> Sequence[Sample]:
    """The images of a split, with captions, phrases and what true boxes there are.

    Args:
        name: of `DATASETS`.
        root: the data set's folder, in the layout that it is published in.
        split: a list of images that the data set has by this name.

    Raises:
        GroundcliError: files are missing or can't be read; all that are missing are named, and where they are
            published.
        UsageError: the data set can't have such a split.
    """
    return DATASETS[name](root, split)
