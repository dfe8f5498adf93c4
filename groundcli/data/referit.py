"""ReferIt (RefClef; Kazemzadeh et al., EMNLP 2014) in the layout of Licheng Yu's `refer`, where it is published."""

import json
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from groundcli.data import plain_pickle
from groundcli.data.boxes import scale_of, scaled, size_of
from groundcli.data.layout import find, reading
from groundcli.data.lazy import Lazy
from groundcli.data.sample import Box, Caption, Sample
from groundcli.errors import GroundcliError

SOURCE = "https://github.com/lichengunc/refer"
LISTS = ("berkeley", "unc")


class _Image(NamedTuple):
    path: Path
    size: tuple[float, float]
    expressions: list[tuple[str, str, Box]]  # text, category, box


def load(root: Path, split: str) -> "Lazy[_Image, Sample]":
    """The images of a split with their referring expressions, each a phrase and a caption of its own.

    Equal expressions for one thing count once, as in the paper's code; for two things they count twice, each with its
    own box. The things' labels are the phrases' categories.

    The samples are made as they are asked for: only then is the image's header read, for its size.

    Args:
        root: holds `refclef/refs(berkeley).p` or `refclef/refs(unc).p`, `refclef/instances.json` and
            `images/saiapr_tc-12/NN/images/ID.jpg`; `refclef/` and `images/` may be left out.
        split: "train", "val", "test", or as "berkeley/test" and "unc/testA" with whose it is. Without, it is that of
            `refs(berkeley).p`, on which ReferIt is reported, or of `refs(unc).p` where only that is there. As in
            `refer`, "test" is all tests, "testA" every one with an A.

    Returns:
        Samples named "images/saiapr_tc-12/NN/images/ID.jpg". Boxes are in pixels of the image as it lies on the disk:
        where `instances.json` states another size, they are scaled.

    Raises:
        GroundcliError: files or the split are missing, can't be read, or the pickle holds more than plain data.
    """
    whose, _, name = split.rpartition("/")
    lists = [whose] if whose else LISTS
    refs_path, instances_path, images = find(
        root,
        [
            [f"{folder}refs({owner}).p" for owner in lists for folder in ("refclef/", "")],
            ["refclef/instances.json", "instances.json"],
            ["images/saiapr_tc-12/", "saiapr_tc-12/"],
        ],
        SOURCE,
    )
    refs = plain_pickle.load(refs_path)
    with reading(instances_path, "RefClef's instances"):
        content = json.loads(instances_path.read_bytes())
        files = {i["id"]: (images / i["file_name"], size_of(i)) for i in content["images"]}
        things = {a["id"]: tuple(map(float, a["bbox"])) for a in content["annotations"]}
        labels = {c["id"]: c["name"] for c in content["categories"]}
    expressions: dict[Any, list[tuple[str, str, Box]]] = defaultdict(list)
    with reading(refs_path, "RefClef's expressions"):
        chosen = [ref for ref in refs if _is_in(name, ref["split"])]
        for ref in chosen:
            texts = dict.fromkeys(sentence["sent"].strip() for sentence in ref["sentences"])
            label, (x, y, width, height) = labels[ref["category_id"]], things[ref["ann_id"]]
            expressions[ref["image_id"]] += [(text, label, (x, y, width, height)) for text in texts if text]
        keys = [_Image(*files[image], own) for image, own in expressions.items()]
    if not keys:
        known = ", ".join(sorted({ref["split"] for ref in refs}))
        raise GroundcliError(f"{refs_path}: no expressions of the split {name}; it has the splits {known}")
    return Lazy(keys, partial(_sample, root))


def _is_in(name: str, split: str) -> bool:
    """Whether a split's name, such as "testAB", belongs to one asked for."""
    if name == "test":
        return split.startswith("test")
    if name in ("testA", "testB", "testC"):
        return split.startswith("test") and name[-1] in split[len("test") :]
    return split == name


def _sample(root: Path, image: _Image) -> Sample:
    scale = scale_of(image.path, image.size)
    captions = tuple(
        Caption.of_phrase(text, category=label, boxes=(scaled(box, scale),)) for text, label, box in image.expressions
    )
    return Sample(image.path.relative_to(root).as_posix(), image.path, captions)
