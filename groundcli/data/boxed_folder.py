"""The user's own images with true boxes in a COCO JSON file, such as `annotate` writes and people correct."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundcli.data.coco_json import LISTS, WHAT, Category, Record, box_of, by_image, categories, read
from groundcli.data.layout import reading
from groundcli.data.sample import Box, Caption, Phrase, Sample
from groundcli.errors import GroundcliError


def load(root: Path, split: str) -> list[Sample]:
    """Images with the phrases that a COCO file of the same folder annotates.

    An annotation's `phrase` is a phrase of the caption that its `caption_id` names in the file's list `captions`, at
    its `span` or else where it first occurs; without such a caption it is a caption of its own, and an annotation
    without `phrase` stands for its category's name. Annotations of one phrase of one caption share their boxes. The
    true box is `bbox`, whatever `boxes` and `keypoints` say; crowds and annotations without a box give none.
    Supercategories are the phrases' categories.

    Args:
        root: the folder that the file's `file_name`s are relative to.
        split: the file's name without ".json": "annotations" for `annotations.json`.

    Returns:
        Samples named by their `file_name`, of images with annotations. Boxes are in pixels of the upright image.

    Raises:
        GroundcliError: the file is missing or can't be read, or none of its images exists.
    """
    path = root / f"{split}.json"
    if not path.is_file():
        known = ", ".join(sorted(f"--split {file.stem}" for file in root.glob("*.json")))
        hint = f"; this folder has {known}" if known else "; put COCO annotations there, beside the images"
        raise GroundcliError(f"{path}: no such file{hint}")
    content = read(path, *LISTS)
    with reading(path, WHAT):
        named, own = categories(content), by_image(content["annotations"])
        said = {caption["id"]: caption["caption"] for caption in content.get("captions", ())}
        samples = [
            Sample(image["file_name"], root / image["file_name"], _captions(own[image["id"]], said, named))
            for image in content["images"]
            if image["id"] in own
        ]
    if samples and not any(sample.image.exists() for sample in samples):
        raise GroundcliError(f"{path}: none of its {len(samples)} images is in {root}; put it beside the images")
    return samples


def _captions(
    annotations: Sequence[Record], said: Mapping[Any, str], named: Mapping[int, Category]
) -> tuple[Caption, ...]:
    """The captions of one image, in order of their first annotations."""
    boxes: dict[tuple[str, tuple[int, int], str], list[Box]] = defaultdict(list)
    for annotation in annotations:
        category = named[annotation["category_id"]]
        text, span = _place(annotation.get("phrase", category.name), annotation, said)
        boxes[text, span, category.group] += filter(None, [box_of(annotation)])
    phrases: dict[str, list[Phrase]] = defaultdict(list)
    for (text, (start, end), group), own in boxes.items():
        phrases[text].append(Phrase(text[start:end], (start, end), group, tuple(own)))
    return tuple(Caption(text, tuple(own)) for text, own in phrases.items())


def _place(phrase: str, annotation: Record, said: Mapping[Any, str]) -> tuple[str, tuple[int, int]]:
    """The caption that a phrase is in, and its span."""
    caption = said.get(annotation.get("caption_id"), phrase)
    start, end = annotation.get("span") or (0, 0)
    if caption[start:end] != phrase:
        start = caption.find(phrase)
    return (caption, (start, start + len(phrase))) if start >= 0 else (phrase, (0, len(phrase)))
