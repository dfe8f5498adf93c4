"""Boxes that were drawn on an image of another size than the file on the disk has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from groundcli.data.sample import Box

SIDEWAYS = range(5, 9)  # EXIF orientations that swap width and height


def size_of(record: Mapping[str, Any]) -> tuple[float, float]:
    """The (width, height) that a record of an image states. Raises KeyError or ValueError where it states none."""
    size = float(record["width"]), float(record["height"])
    if min(size) <= 0:
        raise ValueError(f"an image of {size[0]:g} x {size[1]:g} pixels")
    return size


def scale_of(image: Path, size: tuple[float, float]) -> tuple[float, float]:
    """How much wider and higher the upright image is than the (width, height) that its boxes are in.

    Only the file's header is read. A file that can't be opened is left to whoever decodes it: (1, 1).
    """
    try:
        with Image.open(image) as picture:
            width, height = picture.size
            if picture.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS:
                width, height = height, width
    except (OSError, Image.DecompressionBombError):
        return 1, 1
    return width / size[0], height / size[1]


def scaled(box: Box, scale: tuple[float, float]) -> Box:
    """The box (x, y, width, height) on an image that is `scale` times as wide and high."""
    x, y, width, height = box
    across, down = scale
    return x * across, y * down, width * across, height * down
