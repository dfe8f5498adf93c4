"""Which phrases count. A number means nothing without the protocol that gave it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from groundcli.data.sample import Box, Caption, Phrase
from groundcli.evaluation.metrics import enclosing_box

Protocol = Literal["default", "authors"]
Encode = Literal["caption", "phrase"]

LARGE = 0.9
SMALL = 0.05  # of the image; the authors' filter, which their paper doesn't mention
NO_BOX, NOT_VISUAL, SMALL_BOX = "no_box", "notvisual", "small_box"


@dataclass(frozen=True)
class Settings:
    """What numbers depend on besides model and data; they are named beside every one.

    Attributes:
        protocol: which phrases and boxes count.
        tolerance: pixels that a point may lie outside its box.
        encode: whether a phrase is read within its whole caption, or alone.
    """

    protocol: Protocol = "default"
    tolerance: float = 0
    encode: Encode = "caption"


def scored_phrases(caption: Caption, size: tuple[int, int], protocol: Protocol) -> tuple[Phrase, ...]:
    """The phrases of a caption that a protocol scores, in order, on an image of (width, height)."""
    return tuple(phrase for phrase in caption.phrases if not skip_reason(phrase, size, protocol))


def counted_boxes(boxes: Sequence[Box], size: tuple[int, int], protocol: Protocol) -> list[Box]:
    """The predicted boxes that a protocol measures, in order: "authors" leaves out those of 90 % of the image or more
    (`filter_bbox` in the authors' code)."""
    if protocol == "default":
        return list(boxes)
    return [box for box in boxes if box[2] / size[0] * (box[3] / size[1]) < LARGE]


def skip_reason(phrase: Phrase, size: tuple[int, int], protocol: Protocol) -> str:
    """Why a protocol doesn't score a phrase; "" where it does.

    "default" scores every phrase with a box. "authors" also leaves out what the annotators called `notvisual`, and
    phrases whose enclosing box covers less than 5 % of the image (`check_percent` in the authors' code).
    """
    if protocol == "authors" and phrase.category == "notvisual":
        return NOT_VISUAL
    if not phrase.boxes:
        return NO_BOX
    if protocol == "authors":
        _, _, width, height = enclosing_box(phrase.boxes)
        if width / size[0] * (height / size[1]) < SMALL:
            return SMALL_BOX
    return ""
