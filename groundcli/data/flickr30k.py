"""Flickr30k Entities (Plummer et al., ICCV 2015), in the layout that it is published in."""

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from groundcli.data import Box, Caption, Sample
from groundcli.data.phrases import parse
from groundcli.data.published import locate, scale_of, scaled
from groundcli.errors import GroundcliError

SOURCE = "https://bryanplummer.com/Flickr30kEntities, images at https://shannon.cs.illinois.edu/DenotationGraph"

Entities = Mapping[str, tuple[Box, ...]]  # the boxes of each


def load(root: Path, split: str) -> list[Sample]:
    """The images of a split, in its order, with their captions, marked phrases and boxes.

    An image without an annotations file has no boxes. Phrases of one image with the same entity share their boxes.

    Args:
        root: the folder that holds `Flickr30k_Images` and the others.
        split: the name of a list in `Flickr30k_Splits`: "train", "val", "test".

    Returns:
        Samples named "Flickr30k_Images/ID.jpg". Boxes are in pixels of the image as it lies on the disk: where the
        annotations were made at another size, they are scaled. As everybody who reports on this data set does, they
        are taken as published, width = xmax - xmin (MATLAB's corners, which count from 1).

    Raises:
        GroundcliError: a folder, the split, or an image's sentences are missing, or a file can't be read.
    """
    locate(root, [["Flickr30k_Images/"], ["Flickr30k_Entities/Sentences/"], ["Flickr30k_Splits/"]], SOURCE)
    return [_sample(root, image_id) for image_id in _ids(root, split)]


def _ids(root: Path, split: str) -> list[str]:
    folder = root / "Flickr30k_Splits"
    path = folder / f"{split}.txt"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.txt")))
        raise GroundcliError(f"{path}: no such file; this folder has the splits {known or '(none)'}")
    return _read(path).split()


def _sample(root: Path, image_id: str) -> Sample:
    image = root / "Flickr30k_Images" / f"{image_id}.jpg"
    entities = root / "Flickr30k_Entities"
    boxes = _boxes(entities / "Annotations" / f"{image_id}.xml", image)
    lines = _read(entities / "Sentences" / f"{image_id}.txt").split("\n")
    captions = tuple(_with_boxes(parse(line), boxes) for line in lines if line.strip())
    return Sample(image.relative_to(root).as_posix(), image, captions)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise GroundcliError(f"{path}: no such file (published at {SOURCE})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise GroundcliError(f"{path}: can't be read ({error}); fetch the file again") from error


def _with_boxes(caption: Caption, boxes: Entities) -> Caption:
    return replace(caption, phrases=tuple(replace(p, boxes=boxes.get(p.entity, ())) for p in caption.phrases))


def _boxes(annotations: Path, image: Path) -> Entities:
    """An image's boxes by entity. An object may name several entities, and an entity may have several objects."""
    if not annotations.exists():
        return {}
    boxes: dict[str, list[Box]] = defaultdict(list)
    try:
        tree = ET.fromstring(_read(annotations))
        size = _number(tree, "size/width"), _number(tree, "size/height")
        if min(size) <= 0:
            raise ValueError(f"size {size}")
        for thing in tree.iter("object"):
            corners = [_corners(box) for box in thing.iter("bndbox")]
            for name in thing.iter("name"):
                boxes[(name.text or "").strip()] += corners
    except (ET.ParseError, ValueError) as error:
        raise GroundcliError(f"{annotations}: not Flickr30k Entities annotations ({error}); fetch it again") from error
    if not any(boxes.values()):
        return {}
    scale = scale_of(image, size)
    return {name: tuple(scaled(box, scale) for box in b) for name, b in boxes.items()}


def _corners(box: ET.Element) -> Box:
    x0, y0, x1, y1 = (_number(box, corner) for corner in ("xmin", "ymin", "xmax", "ymax"))
    return x0, y0, x1 - x0, y1 - y0


def _number(element: ET.Element, path: str) -> float:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return float(text)
