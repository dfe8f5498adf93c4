"""Boxes as YOLO is trained on."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from groundcli.errors import GroundcliError
from groundcli.files import replacing
from groundcli.output.record import Label, Record, Writer, phrases_of

LABELS = "labels"


@contextmanager
def yolo(out: Path, label: Label = str.lower) -> Iterator[Writer]:
    """Writes `labels/PATH.txt` for each image and `data.yaml`.

    One line per phrase: `class cx cy width height`, of its best box (where none was found, of the hot region around its
    point). (cx, cy) is the middle of the box; cx and width are shares of the image's width, cy and height of its
    height, from the upper left corner of the upright image on. Classes are numbered from 0 as they appear, in
    `names` of `data.yaml`: the id of COCO's category less one. An image without phrases has an empty file.

    `data.yaml` has its images in `images` beside `labels`, for training and validation alike: copy them there, folders
    and all. YOLO finds the labels of `images/a/b.jpg` in `labels/a/b.txt`, but not of a folder of yours that is called
    `images` itself.

    Args:
        out: the run's folder.
        label: the name of a phrase's class.

    Raises:
        GroundcliError: two images differ in nothing but their suffix, so that YOLO would read the labels of one for
            both.
        OSError: the folder can't be written to.
    """
    numbers: dict[str, int] = {}
    taken: dict[Path, str] = {}

    def write(record: Record) -> None:
        path = _claimed(label_path(out, record["file_name"]), record["file_name"], taken)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            for _, phrase in phrases_of(record):
                number = numbers.setdefault(label(phrase["phrase"]), len(numbers))
                file.write(f"{number} {_normalised(phrase['bbox'], record['width'], record['height'])}\n")

    yield write
    with replacing(out / "data.yaml") as file:
        file.write("train: images\nval: images\n")
        file.write("names:\n" if numbers else "names: {}\n")
        file.writelines(f"  {number}: {_quoted(name)}\n" for name, number in numbers.items())


def check_names(names: Iterable[str]) -> None:
    """Raises GroundcliError where two images would have one file of labels."""
    taken: dict[Path, str] = {}
    for name in names:
        _claimed(label_path(Path(), name), name, taken)


def label_path(out: Path, name: str) -> Path:
    """Where an image's labels are.

    Args:
        out: the run's folder.
        name: the image's relative path with forward slashes.
    """
    return out / LABELS / f"{name.rsplit('.', 1)[0]}.txt"


def _claimed(path: Path, name: str, taken: dict[Path, str]) -> Path:
    other = taken.setdefault(path, name)
    if other != name:
        raise GroundcliError(f"{other} and {name}: YOLO can't tell them apart; rename one of them")
    return path


def _normalised(box: list[float], width: int, height: int) -> str:
    x, y, w, h = box
    return f"{(x + w / 2) / width:.6f} {(y + h / 2) / height:.6f} {w / width:.6f} {h / height:.6f}"


def _quoted(text: str) -> str:
    """A text in YAML's double quotes; what can't be printed is escaped."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'
