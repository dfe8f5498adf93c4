"""Boxes as YOLO is trained on."""

import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from groundcli.errors import GroundcliError
from groundcli.files import partial_of, replacing
from groundcli.output.record import Label, Record, Writer, phrases_of

LABELS, IMAGES = "labels/", "images/"
VALIDATION = 10  # of so many images one is for validation


@contextmanager
def yolo(out: Path, label: Label, images: Mapping[str, Path], copy: bool = False) -> Iterator[Writer]:
    """Writes `labels/PATH.txt` and `images/PATH` for each image, `train.txt`, `val.txt` and `data.yaml`.

    One line per phrase: `class cx cy width height`, of its best box (where none was found, of the hot region around its
    point); equal lines are one. (cx, cy) is the middle of the box; cx and width are shares of the image's width, cy and
    height of its height, from the upper left corner of the upright image on. Classes are numbered from 0 as they
    appear, in `names` of `data.yaml`. An image without phrases has an empty file.

    A tenth of the images, at least one, is for validation: the same ones in every run.

    `images` are the images' files, by their names; with `copy` they are copied: links suffice where they stay.

    Raises:
        GroundcliError: two images differ in nothing but their suffix, so that YOLO would read the labels of one for
            both; or an image isn't there.
        OSError: the folder can't be written to.
    """
    numbers: dict[str, int] = {}
    taken: dict[str, str] = {}

    def write(record: Record) -> None:
        name = record["file_name"]
        if name not in images:
            raise GroundcliError(f"{name}: this image is gone; {say_where(out)}")
        path = out / LABELS / _claimed(name, taken)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = dict[str, None]()
        for _, phrase in phrases_of(record):
            number = numbers.setdefault(label(phrase["phrase"]), len(numbers))
            (x, y, w, h), width, height = phrase["bbox"], record["width"], record["height"]
            shares = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
            lines[f"{number} {' '.join(f'{share:.6f}' for share in shares)}\n"] = None
        with replacing(path) as file:
            file.writelines(lines)
        _put(images[name], out / IMAGES / image_name(name), copy)

    yield write
    order = sorted(taken.values(), key=lambda name: (zlib.crc32(os.fsencode(name)), name))
    aside = {*order[: max(1, len(order) // VALIDATION)]}
    train = [name for name in taken.values() if name not in aside]
    for file_name, names in (("train.txt", train or order), ("val.txt", sorted(aside))):
        with replacing(out / file_name) as file:
            file.writelines(f"./{IMAGES}{image_name(name)}\n" for name in names)
    with replacing(out / "data.yaml") as file:
        file.write(f"path: {_quoted(str(out.resolve()))}\ntrain: train.txt\nval: val.txt\n")
        file.write("names:\n" if numbers else "names: {}\n")
        file.writelines(f"  {number}: {_quoted(name)}\n" for name, number in numbers.items())


def say_where(out: Path) -> str:
    """What to do about images of a run's folder that aren't where they were."""
    return f"say where the run's images are now: `groundcli export {out} --format yolo --images FOLDER`"


def image_name(name: str) -> str:
    """An image's path in `images/`: its name; but YOLO looks for labels by the last folder called "images"."""
    *folders, base = name.split("/")
    return "/".join([*("images_" if folder == "images" else folder for folder in folders), base])


def label_name(name: str) -> str:
    """The path of an image's labels in `labels/`."""
    return f"{image_name(name).rsplit('.', 1)[0]}.txt"


def check_names(names: Iterable[str]) -> None:
    """Raises GroundcliError where two images would have one file of labels."""
    taken: dict[str, str] = {}
    for name in names:
        _claimed(name, taken)


def _claimed(name: str, taken: dict[str, str]) -> str:
    path = label_name(name)
    other = taken.setdefault(path, name)
    if other != name:
        raise GroundcliError(f"{other} and {name}: YOLO can't tell them apart; rename one of them")
    return path


def _put(image: Path, path: Path, copy: bool) -> None:
    """Links to an image, or copies it where that is wanted or links can't be made; writes through no link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    partial.unlink(missing_ok=True)
    try:
        if copy:
            raise OSError
        partial.symlink_to(image.absolute())
    except OSError:
        shutil.copyfile(image, partial)
    partial.replace(path)


def _quoted(text: str) -> str:
    """A text in YAML's double quotes; what can't be printed is escaped."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'
