"""Published data sets: which of their files are missing, reading what is there, and boxes drawn at another size."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from PIL import ExifTags

from groundcli.data import Box
from groundcli.data.images import open_image
from groundcli.errors import GroundcliError, first_line

MOST_DIGITS = 4300  # of a whole number: longer ones Python itself refuses, with advice for programmers
SIDEWAYS = range(5, 9)  # EXIF orientations that swap width and height
T = TypeVar("T")


def locate(root: Path, wanted: Sequence[Sequence[str]], source: str) -> list[Path]:
    """Where the files and folders of a data set lie below its root, in order.

    Each of those `wanted` is a list of places where it may lie; a folder's ends with "/". Raises GroundcliError where
    some are missing: all of them are named, each by the first of its places, and the source where they are published.
    """
    places = [next((p for p in map(root.joinpath, names) if p.exists()), None) for names in wanted]
    missing = [names[0] for names, place in zip(wanted, places, strict=True) if place is None]
    if missing:
        raise GroundcliError(f"{root}: lacks {', '.join(missing)} (published at {source})")
    return [place for place in places if place is not None]


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Whatever goes wrong in reading a file becomes a GroundcliError that says what the file should be."""
    try:
        yield
    except GroundcliError:
        raise
    except OSError as error:
        raise GroundcliError(f"{path}: can't be read ({error.strerror}); check its permissions") from None
    except KeyError as error:
        raise GroundcliError(f"{path}: not {what} (no {error} where one is expected); fetch it again") from None
    # SyntaxError is XML's.
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, SyntaxError) as error:
        raise GroundcliError(f"{path}: not {what} ({first_line(error)}); fetch it again") from None


def listed(path: Path, *others: str) -> list[str]:
    """The ids of a list of images; the splits of a data set are such lists, and `others`. Raises GroundcliError."""
    if not path.is_file():
        known = ", ".join([*others, *sorted(file.stem for file in path.parent.glob("*.txt"))]) or "(none)"
        said = f"no such file; this folder has the splits {known}; a list has an image id per line"
        raise GroundcliError(f"{path}: {said}")
    with reading(path, "a list of image ids"):
        return path.read_text("utf-8").split()


class Lazy(Sequence[T]):
    """`make(key)` of each key, worked out anew each time: a loaded data set opens no image that isn't used."""

    def __init__(self, keys: Sequence[Any], make: Callable[[Any], T]):
        self._keys = keys
        self._make = make

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Lazy(self._keys[index], self._make)
        return self._make(self._keys[index])


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, which says what is wrong on one line, for all that can't be read."""
    try:
        return json.loads(text, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({first_line(error)})") from None


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def as_id(value: Any) -> int | str:
    """COCO's id of an image. Raises ValueError for anything else: to Python, `true` and 1.0 are equal to 1."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is no id")
    return value


def size_of(about: Mapping[str, Any]) -> tuple[float, float]:
    """The (width, height) that is stated of an image. Raises KeyError or ValueError where there is none."""
    size = float(about["width"]), float(about["height"])
    if min(size) <= 0:
        raise ValueError(f"an image of {size[0]:g} x {size[1]:g} pixels")
    return size


def scale_of(image: Path, size: tuple[float, float]) -> tuple[float, float]:
    """How much wider and higher the upright image is than the (width, height) that its boxes are in.

    Only the file's header is read. A file that can't be opened is left to whoever decodes it: (1, 1).
    """
    try:
        with open_image(image) as picture:
            width, height = picture.size
            if picture.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS:
                width, height = height, width
    except Exception:  # a broken file makes Pillow raise nearly anything
        return 1, 1
    return width / size[0], height / size[1]


def scaled(box: Box, scale: tuple[float, float]) -> Box:
    """The box (x, y, width, height) on an image that is `scale` times as wide and high."""
    x, y, width, height = box
    across, down = scale
    return x * across, y * down, width * across, height * down
