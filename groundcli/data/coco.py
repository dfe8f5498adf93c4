"""COCO (Lin et al., ECCV 2014) in the layouts of 2014 and 2017: captions, or names of categories."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from groundcli.data.coco_json import (
    LISTS,
    WHAT,
    Boxes,
    Record,
    boxes_by_image,
    by_image,
    category_captions,
    read,
)
from groundcli.data.coco_names import named_category
from groundcli.data.layout import find, reading
from groundcli.data.phrases import PhraseFinder
from groundcli.data.sample import Caption, Sample
from groundcli.errors import UsageError

SOURCE = "https://cocodataset.org/#download"
YEARS = ("2017", "2014")
PARTS = {"trainval": ["train", "val"]}
SPLIT = re.compile(rf"(trainval|train|val)({'|'.join(YEARS)})?")


def load(root: Path, split: str) -> list[Sample]:
    """Images with their captions; those of "val" with the noun phrases that name a category, and their boxes.

    A noun phrase that spaCy finds counts where it ends in a category's name or in a plain synonym of it
    (`groundcli.data.coco_names`) and the image has a box of that category; nobody linked COCO's captions to its boxes,
    so every instance of the category in the image is a true box. Other phrases are left out. Captions of "train" and
    "trainval" are to learn from: they have no phrases, and `instances_*.json` isn't read.

    A phrase's `entity` is the category, its `category` the supercategory: twelve groups, each with enough phrases for
    a number of its own. Crowds (`iscrowd`) are no boxes: a point on one is a miss where other instances are marked,
    and a category that has nothing else in an image isn't asked for.

    Args:
        root: holds `annotations/captions_val2017.json` and `val2017/` (or `images/val2017/`), and so on.
        split: "train", "val", or both as "trainval", which the paper learned from. Where both years are there it is
            2017's; "val2014" and so on name the year.

    Returns:
        Samples named "val2017/000000000139.jpg". Boxes are in the sizes that the files have as published.

    Raises:
        UsageError: no such split.
        GroundcliError: files are missing or can't be read.
    """
    kinds = ["captions", "instances"] if split.startswith("val") else ["captions"]
    samples: list[Sample] = []
    for captions, *instances, folder in _files(root, split, kinds):
        content = read(captions, "images", "annotations")
        with reading(captions, WHAT):
            lines = by_image(content["annotations"])
            said = {
                image["id"]: _sample(root, folder, image, [Caption(c["caption"].strip()) for c in lines[image["id"]]])
                for image in content["images"]
                if image["id"] in lines
            }
        for path in instances:
            _, boxes = _instances(path)
            said = _with_phrases(said, boxes)
        samples += said.values()
    return samples


def load_categories(root: Path, split: str) -> list[Sample]:
    """Images with the names of the categories that they show, each a phrase and a caption of its own.

    The boxes of a phrase are all instances of its category in the image, crowds left out. Arguments, names, errors,
    `entity` and `category` are as of `load`; captions files aren't read.
    """
    samples: list[Sample] = []
    for instances, folder in _files(root, split, ["instances"]):
        images, boxes = _instances(instances)
        with reading(instances, WHAT):
            samples += [
                _sample(root, folder, image, category_captions(boxes[image["id"]]))
                for image in images
                if image["id"] in boxes
            ]
    return samples


def _files(root: Path, split: str, kinds: Sequence[str]) -> list[list[Path]]:
    """For each part of a split, its annotations of these kinds and the folder of its images."""
    match = SPLIT.fullmatch(split)
    if not match:
        raise UsageError(f"--split {split}: COCO has train, val and trainval, and with the year val2014 and so on")
    name, year = match.groups()
    parts = PARTS.get(name, [name])
    if year is None:
        here = (y for y in YEARS if (root / f"annotations/{kinds[0]}_{parts[0]}{y}.json").exists())
        year = next(here, YEARS[0])
    wanted = [
        places
        for part in parts
        for places in (
            *([f"annotations/{kind}_{part}{year}.json"] for kind in kinds),
            [f"{part}{year}/", f"images/{part}{year}/"],
        )
    ]
    found, step = find(root, wanted, SOURCE), len(kinds) + 1
    return [found[start : start + step] for start in range(0, len(found), step)]


def _instances(path: Path) -> tuple[list[Record], Mapping[int, Boxes]]:
    """The images, and the boxes of those that have any."""
    content = read(path, *LISTS)
    with reading(path, WHAT):
        return content["images"], boxes_by_image(content)


def _sample(root: Path, folder: Path, image: Record, captions: Sequence[Caption]) -> Sample:
    path = folder / image["file_name"]
    return Sample(path.relative_to(root).as_posix(), path, tuple(captions))


def _with_phrases(samples: Mapping[int, Sample], boxes: Mapping[int, Boxes]) -> dict[int, Sample]:
    """Samples by the ids of their images, with the phrases that name a category of theirs."""
    found = iter(PhraseFinder().find([caption for sample in samples.values() for caption in sample.captions], "noun"))
    return {
        image: replace(sample, captions=tuple(_boxed(next(found), boxes.get(image, {})) for _ in sample.captions))
        for image, sample in samples.items()
    }


def _boxed(caption: Caption, boxes: Boxes) -> Caption:
    shown = {category.name: category for category in boxes}
    named = [(phrase, shown.get(named_category(phrase.text))) for phrase in caption.phrases]
    return replace(
        caption,
        phrases=tuple(
            replace(phrase, category=category.group, boxes=boxes[category], entity=category.name)
            for phrase, category in named
            if category
        ),
    )
