"""Images, captions and phrases, from wherever they come. Here is the one type that every source yields, `Sample`, with
what it is made of; and the data sets, by their names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

Box = tuple[float, float, float, float]  # (x, y, width, height), pixels of the upright image, origin top left


@dataclass(frozen=True, slots=True)
class Phrase:
    """A span of a caption."""

    text: str  # the exact characters of the caption, `caption.text[span[0]:span[1]]`
    span: tuple[int, int]  # character offsets (start, end) into the caption's text, end excluded
    category: str = ""  # what kind of thing it names ("people", "clothing", ...) where the source says so
    boxes: tuple[Box, ...] = ()  # true boxes of the thing; empty where nobody drew any
    entity: str = ""  # the source's own name of the thing, equal for phrases of one image that mean the same


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence about an image, with the phrases that its source marked in it (none: not marked)."""

    text: str
    phrases: tuple[Phrase, ...] = ()

    @classmethod
    def of_phrase(cls, text: str, category: str = "", boxes: tuple[Box, ...] = ()) -> "Caption":
        """A phrase that is a caption of its own; the arguments are the phrase's."""
        return cls(text, (Phrase(text, (0, len(text)), category, boxes),))


@dataclass(frozen=True, slots=True)
class Sample:
    """An image, where its file is, and what is said about it, in the order of the source.

    `name` is its path relative to its source's root, with forward slashes: its name in every output.
    """

    name: str
    image: Path
    captions: Sequence[Caption] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An image or a caption that can't be used, and why, for the user to read; a batch collects these and continues.

    `path` is the image's name in its source, or the captions file, with `:LINE` where one line is to blame.
    """

    path: str
    reason: str


# --- Data sets

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
    """The images of a split of a data set in `DATASETS`, with captions, phrases and what true boxes there are.

    `root` is the data set's folder, in the layout that it is published in.

    Raises:
        GroundcliError: files are missing or can't be read; all that miss are named, and where they are published.
        UsageError: the data set can't have such a split.
    """
    samples: Sequence[Sample] = resolve_name(DATASETS[name])(root, split)
    return samples
