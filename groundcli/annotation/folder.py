"""The folder of a run of annotate: which of its files groundcli wrote. Nothing else there is ever touched.

`run.json` lists the files of the run under "files", before the first of them is written; an entry that ends with "/" is
a folder with a file per image, named by a rule of `PER_IMAGE`. `positions.json` names the images.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import splitext
from typing import Any

from groundcli.data.images import IMAGE_SUFFIXES
from groundcli.errors import GroundcliError, UsageError
from groundcli.files import LOCK, beside, is_partial
from groundcli.output.record import opened
from groundcli.output.yolo import image_name, label_name

RUN, JOURNAL, FAILURES, POSITIONS = "run.json", "annotations.jsonl", "failures.jsonl", "positions.json"
OVERLAYS, HEATMAPS, THUMBNAILS = "overlays/", "heatmaps/", "report/thumbnails/"
LABELS, IMAGES = "labels/", "images/"  # YOLO's
PAGES = "report/"  # `index.js`, `data-0001.js` and so on
SHARDS = "shards/"  # journals of several devices, while they are at work
DAMAGED = "annotations.damaged.jsonl"  # lines of the journal that can't be read any more
TRACEBACKS = "tracebacks.txt"  # of errors that nobody foresaw, for a report
ALWAYS = (RUN, JOURNAL, FAILURES, POSITIONS, DAMAGED, TRACEBACKS, "annotations.json", "results.json", "not_found.jsonl")
BY_FORMAT: Mapping[str, Sequence[str]] = {
    "coco": (),
    "jsonl": ("phrases.jsonl",),
    "csv": ("phrases.csv",),
    "yolo": (LABELS, IMAGES, "data.yaml", "train.txt", "val.txt"),
    "labelstudio": ("labelstudio.json", "labelstudio.xml"),
}
SYSTEM = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # what file managers leave
NAMED = 3  # files that an error names


def overlay_name(name: str) -> str:
    """An overlay's path in its folder: the image's own where that says JPEG, else with .jpg after it.

    One to one: `a.png` and `a.png.jpg` become `a.png.jpg` and `a.png.jpg.jpg`.
    """
    stem, suffix = splitext(name)
    plain = suffix.lower() in (".jpg", ".jpeg") and splitext(stem)[1].lower() not in IMAGE_SUFFIXES
    return f"{beside(stem, '.jpg')[:-4]}{suffix}" if plain else beside(name, ".jpg")


PER_IMAGE: Mapping[str, Callable[[str], str]] = {
    OVERLAYS: overlay_name,
    HEATMAPS: lambda name: beside(name, ".npz"),
    THUMBNAILS: lambda name: beside(name, ".jpg"),
    LABELS: label_name,
    IMAGES: image_name,
}


def files_of(overlays: bool, report: bool, heatmaps: bool) -> list[str]:
    """The files that a run with these outputs writes, as `run.json` lists them; formats add theirs."""
    return [*ALWAYS, SHARDS, *pictures_of(overlays, report, heatmaps), *(["report.html", PAGES] * report)]


def pictures_of(overlays: bool, report: bool, heatmaps: bool) -> list[str]:
    """The folders with a file per image that is made while the image is worked on."""
    return [OVERLAYS] * overlays + [THUMBNAILS] * report + [HEATMAPS] * heatmaps


@dataclass(frozen=True)
class RunFolder:
    """What an --out holds before a run.

    Attributes:
        out: the folder.
        run: `run.json` of the run that is there already; empty where none is.
        images: names of that run's images.
        files: what that run wrote and is still there, relative to the folder.
        empty: those of the files that are empty.
    """

    out: Path
    run: Mapping[str, Any] = field(default_factory=dict)
    images: Collection[str] = ()
    files: Sequence[Path] = ()
    empty: Collection[str] = ()

    def has_pictures(self, folders: Iterable[str]) -> Callable[[str], bool]:
        """Whether an image, by its name, has a picture in each of these folders that isn't empty."""
        whole = {file.as_posix() for file in self.files}.difference(self.empty)
        rules = [(folder, PER_IMAGE[folder]) for folder in folders]
        return lambda name: all(f"{folder}{rule(name)}" in whole for folder, rule in rules)

    def remove(self, kept: Collection[str] = ()) -> None:
        """Deletes the run's files per image but those of some images, and what was left half written.

        Args:
            kept: names of images.
        """
        names = {f"{folder}{rule(name)}" for folder, rule in PER_IMAGE.items() for name in kept}
        self._unlink(file for file in self.files if _is_per_image(file) and file.as_posix() not in names)

    def clear(self) -> None:
        """Deletes all files of the run; the list of them goes last."""
        self._unlink(sorted(self.files, key=lambda file: file == Path(RUN)))

    def _unlink(self, files: Iterable[Path]) -> None:
        for file in files:
            (self.out / file).unlink(missing_ok=True)
            for folder in file.parents[:-1]:
                with suppress(OSError):  # not empty
                    (self.out / folder).rmdir()


def look(out: Path) -> RunFolder:
    """Looks at a folder to write a run to; changes nothing.

    Raises:
        UsageError: it holds a file, a link or a folder that no run of groundcli wrote there.
        GroundcliError: it can't be searched.
    """
    if not out.exists():
        if out.is_symlink():
            raise UsageError(f"--out {out}: a link that leads nowhere; name a folder")
        return RunFolder(out)
    if not out.is_dir():
        raise UsageError(f"--out {out}: a file; name a folder")
    run = _run(out)
    images = _images(out) if run else []
    own = set(run.get("files", ()))
    pages = PAGES in own
    pictures = {f"{folder}{rule(name)}" for folder, rule in PER_IMAGE.items() if folder in own for name in images}
    files: list[Path] = []
    empty: set[str] = set()
    foreign: list[str] = []
    for name, size in _walk(out):
        base = name.rpartition("/")[2]
        if base in SYSTEM or name == LOCK:
            continue
        if is_partial(base) or name in own or name in pictures or (pages and _is_page(name)) or _is_shard(name):
            files.append(Path(name))
            if not size:
                empty.add(name)
        else:
            foreign.append(name)
            if len(foreign) > NAMED:
                break
    if foreign:
        more = ", ..." if len(foreign) > NAMED else ""
        raise UsageError(
            f"--out {out}: holds files that groundcli did not write ({', '.join(foreign[:NAMED])}{more}); "
            "name a new folder, or move them elsewhere"
        )
    return RunFolder(out, run, images, files, empty)


def finished(out: Path) -> RunFolder:
    """A folder with a finished run. Raises GroundcliError where it holds none, and as `look`."""
    folder = look(out) if out.is_dir() else RunFolder(out)
    if not folder.run:
        raise GroundcliError(f"{out}: holds no run of `groundcli annotate`")
    if not folder.run.get("finished"):
        raise GroundcliError(f"{out}: its run isn't finished; run its command again")
    return folder


def check_inputs(out: Path, inputs: Iterable[Path]) -> None:
    """Refuses images, captions and lists that lie in the folder of results. Raises UsageError.

    Args:
        out: the folder of results.
        inputs: every file that is read; of many in one folder the folder is enough.
    """
    real = Path(os.path.realpath(out))
    for path in dict.fromkeys(inputs):
        if Path(os.path.realpath(path)).is_relative_to(real):
            raise UsageError(
                f"--out {out}: holds {path}, which is to be read; name a folder that holds nothing of yours, "
                f"such as {out / 'groundcli'}"
            )


def _run(out: Path) -> dict[str, Any]:
    """`run.json`, if a run of annotate wrote it; none of another program's."""
    try:
        run = json.loads((out / RUN).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        raise UsageError(f"{out / RUN}: can't be read as a run's; name another --out, or move it elsewhere") from None
    shape = {"version": str, "weights": dict, "arguments": dict, "files": list}
    if not isinstance(run, dict) or not all(isinstance(run.get(key), kind) for key, kind in shape.items()):
        return {}
    return run if all(isinstance(name, str) for name in run["files"]) else {}


def _images(out: Path) -> list[str]:
    """Names of the run's images, from `positions.json`; from the journal where that is lost or damaged."""
    try:
        positions = json.loads((out / POSITIONS).read_text("utf-8"))
        images = [*positions["images"], *positions.get("earlier", ())]
        if all(isinstance(name, str) for name in images):
            return images
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        pass
    with suppress(FileNotFoundError), (out / JOURNAL).open("rb") as lines:
        return [record["file_name"] for record in map(opened, (line.rstrip(b"\n") for line in lines)) if record]
    return []


def _walk(out: Path) -> Iterator[tuple[str, int]]:
    """Every file and link below a folder, by its path from there with forward slashes, and its size."""
    waiting = [""]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(out / here) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise GroundcliError(f"{out / here}: can't be searched ({error.strerror}); check its permissions") from None
        for entry in found:
            name = f"{here}/{entry.name}" if here else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            else:
                yield name, entry.stat(follow_symlinks=False).st_size


def _is_per_image(file: Path) -> bool:
    return is_partial(file.name) or file.as_posix().startswith(tuple(PER_IMAGE))


def _is_shard(name: str) -> bool:
    return re.fullmatch(SHARDS + r"[0-9]+\.jsonl", name) is not None


def _is_page(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return f"{folder}/" == PAGES and (file == "index.js" or (file.startswith("data-") and file.endswith(".js")))
