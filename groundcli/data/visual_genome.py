"""Visual Genome (Krishna et al., IJCV 2017), region descriptions, in the layout that it is published in."""

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from groundcli.data import Box, Caption, Sample
from groundcli.data.published import Lazy, listed, locate, reading, scale_of, scaled, size_of
from groundcli.errors import GroundcliError

SOURCE = "https://homes.cs.washington.edu/~ranjay/visualgenome/api.html"
FOLDERS = ("VG_100K", "VG_100K_2")
MOST_WORDS = 9


def load(root: Path, split: str) -> Sequence[Sample]:
    """The images of a split with their region descriptions, each a phrase and a caption of its own.

    The rules of the paper's authors: phrases of at most 9 words, equal phrases of an image share their boxes, boxes
    are clamped to the image. (They also clamp to its first pixel, and keep what lies wholly outside as a sliver on the
    border; here that is no box.) Phrases have no category.

    Samples are named "VG_100K/ID.jpg", in the order of the list or of `region_descriptions.json`, and made as they are
    asked for. Boxes are in pixels of the image as it lies on the disk, whose header is read then: where
    `image_data.json` states another size, they are scaled. While `region_descriptions.json` is parsed, memory peaks at
    3.7 times its size, at 2.1 times with a list of a tenth of its images. Raises GroundcliError where files or the list
    are missing or can't be read.

    Args:
        root: holds `region_descriptions.json`, `image_data.json`, and the images in `VG_100K/` and `VG_100K_2/` or in
            either of them.
        split: "all", or the name of a list of image ids, `splits/NAME.txt`: the data set has no lists of its own.
    """
    regions_path, sizes_path, _ = locate(
        root, [["region_descriptions.json"], ["image_data.json"], [f"{folder}/" for folder in FOLDERS]], SOURCE
    )
    wanted = None
    if split != "all":
        path = root / "splits" / f"{split}.txt"
        with reading(path, "a list of image ids"):
            wanted = dict.fromkeys(map(int, listed(path, "all")))
    with reading(sizes_path, "Visual Genome's image data"):
        sizes = {i["image_id"]: size_of(i) for i in json.loads(sizes_path.read_bytes())}
    regions = _regions(regions_path, wanted)
    numbers = [number for number in (wanted or regions) if number in regions and number in sizes]
    if not numbers:
        raise GroundcliError(f"{regions_path}: has none of the images of the split {split}; check its list of ids")
    return Lazy([(n, sizes[n], regions[n]) for n in numbers], partial(_sample, root))


def _regions(path: Path, wanted: Collection[int] | None) -> dict[int, list[tuple[str, Box]]]:
    """Regions by image, all or those wanted. The file is 700 MB: the others are dropped while it is parsed."""
    regions: dict[int, list[tuple[str, Box]]] = {}

    def keep(thing: dict[str, Any]) -> object:
        """A region, or None; of an image None, once its regions are kept."""
        if "phrase" in thing:
            if not 0 < len(thing["phrase"].split()) <= MOST_WORDS:
                return None
            x, y, width, height = (float(thing[key]) for key in ("x", "y", "width", "height"))
            return thing["phrase"].strip(), (x, y, width, height)
        number = thing["id"] if "id" in thing else thing["image_id"]
        if wanted is None or number in wanted:
            regions[number] = [region for region in thing["regions"] if region]
        return None

    with reading(path, "Visual Genome's region descriptions"), path.open(encoding="utf-8") as file:
        json.load(file, object_hook=keep)
    return regions


def _sample(root: Path, image: tuple[int, tuple[float, float], list[tuple[str, Box]]]) -> Sample:
    number, size, regions = image
    places = [root / folder / f"{number}.jpg" for folder in FOLDERS]
    path = next((place for place in places if place.exists()), places[0])
    scale = scale_of(path, size)
    boxes: dict[str, list[Box]] = defaultdict(list)
    for phrase, (x, y, width, height) in regions:
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + width, size[0]), min(y + height, size[1])
        boxes[phrase] += [scaled((x0, y0, x1 - x0, y1 - y0), scale)] if x0 < x1 and y0 < y1 else []
    captions = tuple(Caption.of_phrase(phrase, boxes=tuple(shared)) for phrase, shared in boxes.items())
    return Sample(path.relative_to(root).as_posix(), path, captions)
