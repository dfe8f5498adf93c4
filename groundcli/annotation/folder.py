"""The folder of a run of annotate: which of its files groundcli wrote. Nothing else there is ever touched.

`run.json` lists the files of the run under "files", before the first of them is written; an entry that ends with "/" is
a folder with a file per image, named by a rule of `PER_IMAGE`. `positions.json` names the images.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from posixpath import splitext
from typing import Any, NamedTuple

from groundcli.data.images import IMAGE_SUFFIXES
from groundcli.errors import GroundcliError, UsageError
from groundcli.files import LOCK, beside, is_partial
from groundcli.output.record import records
from groundcli.output.yolo import IMAGES, LABELS, image_name, label_name

RUN, JOURNAL, FAILURES, POSITIONS = "run.json", "annotations.jsonl", "failures.jsonl", "positions.json"
OVERLAYS, HEATMAPS, THUMBNAILS = "overlays/", "heatmaps/", "report/thumbnails/"
PAGES = "report/"  # what the page loads
DAMAGED = "annotations.damaged.jsonl"  # lines of the journal that can't be read any more
TRACEBACKS = "tracebacks.txt"  # of errors that nobody foresaw, for a report
ALWAYS = (RUN, JOURNAL, FAILURES, POSITIONS, DAMAGED, TRACEBACKS, "annotations.json", "results.json", "not_found.jsonl")
# Of a report: `index.js`, `data-0001.js` and so on.
PAGE = re.compile(PAGES + r"(index|data-[^/]*)\.js")
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


def file_of(folder: str, name: str) -> str:
    """An image's file in a folder of `PER_IMAGE`, relative to the run's."""
    return f"{folder}{PER_IMAGE[folder](name)}"


def files_of(arguments: Mapping[str, Any]) -> list[str]:
    """The files that a run with these arguments writes, as `run.json` lists them; formats add theirs."""
    return [*ALWAYS, *pictures_of(arguments), *(["report.html", PAGES] * arguments["report"])]


def pictures_of(arguments: Mapping[str, Any]) -> list[str]:
    """The folders with a file per image that is made while the image is worked on."""
    folders = {OVERLAYS: "overlays", THUMBNAILS: "report", HEATMAPS: "save_heatmaps"}
    return [folder for folder, argument in folders.items() if arguments[argument]]


def differences(run: Mapping[str, Any], other: Mapping[str, Any], names: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """Where two runs, by `run.json`, differ in what results depend on, some arguments among it: both values by name.

    Weights are the same if their files are. Paths are if they are called alike, as a whole project may have been moved,
    and if they lead to one place, as somebody may have gone to another folder.
    """

    def told(run: Mapping[str, Any], folder: str) -> dict[str, Any]:
        arguments, weights = run["arguments"], run["weights"]
        values = {"version": run["version"], "weights": f"{weights['name']} of SHA-256 {weights['sha256']}"}
        values |= {name: arguments.get(name) for name in names}
        values["images"] = [os.path.normpath(Path(folder, image)) for image in arguments["images"]]
        values["captions"] = values["captions"] and os.path.normpath(Path(folder, values["captions"]))
        return values

    alike = {"weights"} if run["weights"]["sha256"] == other["weights"]["sha256"] else set()
    as_told = told(run, ""), told(other, "")
    placed = told(run, run.get("folder", "")), told(other, other.get("folder", ""))
    for ours, theirs in (as_told, placed):
        alike |= {name for name in ours if ours[name] == theirs[name]}
    return {name: (placed[0][name], placed[1][name]) for name in placed[0] if name not in alike}


class RunFolder(NamedTuple):
    """What an --out holds before a run."""

    out: Path
    run: Mapping[str, Any] = {}  # `run.json` of the run that is there already, if one is
    positions: Mapping[str, Any] = {"images": ()}  # its `positions.json`, or that alone where it is damaged
    # What that run wrote and is still there, by its path from the folder with forward slashes: its size in bytes.
    files: Mapping[str, int] = {}

    def has_pictures(self, name: str, folders: Iterable[str]) -> bool:
        """Whether an image has a picture in each of these folders that isn't empty."""
        return all(self.files.get(file_of(folder, name)) for folder in folders)

    def remove(self, images: Iterable[str]) -> None:
        """Deletes the files of some images, by their names, and what was left half written."""
        gone = {file_of(folder, name) for folder in PER_IMAGE for name in images}
        self._unlink(file for file in self.files if file in gone or is_partial(file.rpartition("/")[2]))

    def clear(self) -> "RunFolder":
        """Deletes all files of the run; the list of them goes last. Gives what the folder holds then."""
        self._unlink(sorted(self.files, key=lambda file: file == RUN))
        return RunFolder(self.out)

    def _unlink(self, files: Iterable[str]) -> None:
        for file in files:
            (self.out / file).unlink(missing_ok=True)
            for folder in Path(file).parents[:-1]:
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
        _check_outside(out)
        return RunFolder(out)
    if not out.is_dir():
        raise UsageError(f"--out {out}: a file; name a folder")
    run = _run(out)
    if not run:
        _check_outside(out)
    own = {*run.get("files", ())}
    positions = _positions(out) if run else {"images": ()}
    pictures = {file_of(folder, name) for folder in PER_IMAGE if folder in own for name in positions["images"]}
    files: dict[str, int] = {}
    foreign: list[str] = []
    for name, size in _walk(out):
        base = name.rpartition("/")[2]
        is_page = PAGES in own and PAGE.fullmatch(name)
        if is_partial(base) or name in own or name in pictures or is_page:
            files[name] = size
        elif base not in SYSTEM and name != LOCK:
            foreign.append(name)
            if len(foreign) > NAMED:
                break
    if foreign:
        more = ", ..." if len(foreign) > NAMED else ""
        raise UsageError(
            f"--out {out}: holds files that groundcli did not write ({', '.join(foreign[:NAMED])}{more}); "
            "name a new folder, or move them elsewhere"
        )
    return RunFolder(out, run, positions, files)


def finished(out: Path) -> RunFolder:
    """A folder with a finished run. Raises GroundcliError where it holds none, and as `look`."""
    if not out.is_dir() or not _run(out):
        raise GroundcliError(f"{out}: holds no run of `groundcli annotate`")
    folder = look(out)
    if not folder.run.get("finished"):
        raise GroundcliError(f"{out}: its run isn't finished; run its command again")
    if not (out / JOURNAL).is_file():
        raise GroundcliError(f"{out}: {JOURNAL} is gone, and all is made of it; run the command of this run again")
    return folder


def check_inputs(out: Path, inputs: Iterable[Path]) -> None:
    """Refuses inputs, files that are read or folders with many of them, in the folder of results. Raises UsageError."""
    real = Path(os.path.realpath(out))
    for path in dict.fromkeys(inputs):
        if Path(os.path.realpath(path)).is_relative_to(real):
            raise UsageError(
                f"--out {out}: holds {path}, which is to be read; name a folder that holds nothing of yours, "
                f"such as {out / 'groundcli'}"
            )


def _check_outside(out: Path) -> None:
    """Refuses a new folder in that of another run, which could go on no more. Raises UsageError."""
    for parent in Path(os.path.realpath(out)).parents:
        run = {}
        with suppress(UsageError):  # somebody else's file
            run = _run(parent)
        if run:
            raise UsageError(f"--out {out}: is in {parent}, the folder of another run; name one outside of it")


def _run(out: Path) -> dict[str, Any]:
    """`run.json`, if a run of annotate wrote it; none of another program's."""
    try:
        run = json.loads((out / RUN).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        raise UsageError(f"{out / RUN}: can't be read as a run's; name another --out, or move it elsewhere") from None
    shape = {"version": str, "weights": dict, "arguments": dict, "files": list}
    fits = isinstance(run, dict) and all(isinstance(run.get(key), kind) for key, kind in shape.items())
    return run if fits and all(isinstance(name, str) for name in run["files"]) else {}


def _positions(out: Path) -> dict[str, Any]:
    """`positions.json`; the names of the images alone, from the journal, where that is lost or damaged."""
    with suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
        positions = json.loads((out / POSITIONS).read_text("utf-8"))
        listed = {key: positions[key] for key in ("listing", "positions", "images")}
        named = all(isinstance(name, str) for name in listed["images"])
        if named and len(listed["positions"]) == len(listed["images"]):
            return listed
    with suppress(FileNotFoundError):
        return {"images": [record["file_name"] for record in records(out / JOURNAL) if record]}
    return {"images": ()}


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
