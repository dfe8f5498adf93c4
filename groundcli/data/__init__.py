"""Images, captions and phrases, from wherever they come, as `Sample`s. Here are the data sets, by their names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name

from groundcli.data.sample import Sample

# Where a data set's reader is; it takes the folder and the split, and is imported when it is asked for.
DATASETS: Mapping[str, str] = {
    "flickr30k": "groundcli.data.flickr30k:load",
    "coco": "groundcli.data.coco:load",
    "coco_categories": "groundcli.data.coco:load_categories",
    "referit": "groundcli.data.referit:load",
    "visual_genome": "groundcli.data.visual_genome:load",
    "folder": "groundcli.data.coco:load_folder",
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
    samples: Sequence[Sample] = resolve_name(DATASETS[name])(root, split)
    return samples
