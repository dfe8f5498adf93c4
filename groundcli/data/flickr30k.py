"""Flickr30k Entities (Plummer et al., ICCV 2015), in the layout that it is published in."""

import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from groundcli.data import Box, Caption, Sample
from groundcli.data.phrases import parse
from groundcli.data.published import listed, locate, reading, scale_of, scaled, size_of

SOURCE = "https://bryanplummer.com/Flickr30kEntities, images at https://shannon.cs.illinois.edu/DenotationGraph"


def load(root: Path, split: str) -> list[Sample]:
    """The images of a split, in its order, with their captions, marked phrases and boxes.

    An image without an annotations file has no boxes. Phrases of one image with the same entity share their boxes.

    Samples are named "Flickr30k_Images/ID.jpg". Boxes are in pixels of the image as it lies on the disk: where the
    annotations were made at another size, they are scaled. As everybody who reports on this data set does, they are
    taken as published, width = xmax - xmin (MATLAB's corners, which count from 1). Raises GroundcliError where a
    folder, the split, or an image's sentences are missing, or a file can't be read.

    Args:
        root: the folder that holds `Flickr30k_Images` and the others.
        split: the name of a list in `Flickr30k_Splits`: "train", "val", "test".
    """
    locate(root, [["Flickr30k_Images/"], ["Flickr30k_Entities/Sentences/"], ["Flickr30k_Splits/"]], SOURCE)
    return [_sample(root, image_id) for image_id in listed(root / "Flickr30k_Splits" / f"{split}.txt")]


def _sample(root: Path, image_id: str) -> Sample:
    image = root / "Flickr30k_Images" / f"{image_id}.jpg"
    (sentences,) = locate(root, [[f"Flickr30k_Entities/Sentences/{image_id}.txt"]], SOURCE)
    boxes = _boxes(root / "Flickr30k_Entities" / "Annotations" / f"{image_id}.xml", image)
    with reading(sentences, "Flickr30k Entities sentences"):
        captions = [parse(line) for line in sentences.read_text("utf-8").split("\n") if line.strip()]
    return Sample(image.relative_to(root).as_posix(), image, tuple(_with_boxes(caption, boxes) for caption in captions))


def _with_boxes(caption: Caption, boxes: dict[str, tuple[Box, ...]]) -> Caption:
    return replace(caption, phrases=tuple(replace(p, boxes=boxes.get(p.entity, ())) for p in caption.phrases))


def _boxes(annotations: Path, image: Path) -> dict[str, tuple[Box, ...]]:
    """An image's boxes by entity. An object may name several entities, and an entity may have several objects."""
    if not annotations.exists():
        return {}
    boxes: dict[str, list[Box]] = defaultdict(list)
    with reading(annotations, "Flickr30k Entities annotations"):
        tree = ET.fromstring(annotations.read_text("utf-8"))
        size = size_of({side: _number(tree, f"size/{side}") for side in ("width", "height")})
        for thing in tree.iter("object"):
            corners = [
                [_number(box, side) for side in ("xmin", "ymin", "xmax", "ymax")] for box in thing.iter("bndbox")
            ]
            for name in thing.iter("name"):
                boxes[(name.text or "").strip()] += [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in corners]
    if not any(boxes.values()):
        return {}
    scale = scale_of(image, size)
    return {name: tuple(scaled(box, scale) for box in b) for name, b in boxes.items()}


def _number(element: ET.Element, path: str) -> float:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return float(text)
