"""COCO's own JSON, whoever wrote it: images, categories and boxes."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from groundcli.data.layout import reading
from groundcli.data.sample import Box, Caption

Record = Mapping[str, Any]
WHAT = "COCO annotations"
LISTS = ("images", "annotations", "categories")


class Category(NamedTuple):
    """A kind of thing; `group` is its supercategory, or its own name where it has none."""

    name: str
    group: str


Boxes = Mapping[Category, tuple[Box, ...]]  # on one image


def read(path: Path, *lists: str) -> Record:
    """A COCO file, of which these lists are used.

    Raises:
        GroundcliError: it can't be read, or a list is missing.
    """
    with reading(path, WHAT):
        content = json.loads(path.read_bytes())
        for name in lists:
            if not isinstance(content[name], list):
                raise ValueError(f"{name} isn't a list")
        return content


def categories(content: Record) -> dict[int, Category]:
    """Categories by their ids."""
    return {c["id"]: Category(c["name"], c.get("supercategory") or c["name"]) for c in content["categories"]}


def by_image(records: Iterable[Record]) -> dict[Any, list[Record]]:
    """Annotations or captions by the ids of their images, in order."""
    found: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        found[record["image_id"]].append(record)
    return found


def box_of(annotation: Record) -> Box | None:
    """An annotation's box; None for a crowd and for one without a box.

    A crowd (`iscrowd`: 1) is a region of many things that nobody told apart; its box is no thing's box.
    """
    if annotation.get("iscrowd") or not annotation.get("bbox"):
        return None
    x, y, width, height = map(float, annotation["bbox"])
    return x, y, width, height


def boxes_by_image(content: Record) -> Mapping[Any, Boxes]:
    """The boxes of each category on each image that has any, in order of their first annotations."""
    named = categories(content)
    found: dict[Any, dict[Category, tuple[Box, ...]]] = defaultdict(dict)
    for annotation in content["annotations"]:
        box = box_of(annotation)
        if box is not None:
            own, category = found[annotation["image_id"]], named[annotation["category_id"]]
            own[category] = (*own.get(category, ()), box)
    return found


def category_captions(boxes: Boxes) -> tuple[Caption, ...]:
    """Categories' names, each a caption of its own."""
    return tuple(Caption.of_phrase(c.name, c.group, own, entity=c.name) for c, own in boxes.items())
