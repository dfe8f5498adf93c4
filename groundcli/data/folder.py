"""The user's own images: folders, files, lists of files and patterns, with the captions found beside them or named."""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from posixpath import basename, dirname, splitext
from typing import NamedTuple

from groundcli.data.captions.formats import SUFFIXES
from groundcli.data.captions.lines import is_unicode, numbered_lines
from groundcli.data.captions.match import Matched, match_captions, match_named
from groundcli.data.images import IMAGE_SUFFIXES
from groundcli.data.markup import parse
from groundcli.data.sample import Caption, Failure, Sample
from groundcli.errors import BadInput, GroundcliError, UsageError

LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})
WILDCARD = re.compile(r"[*?\[]")
HIDDEN = re.compile(r"(^|/)\.")
OWN = {"run.json", "annotations.jsonl"}  # a folder that holds these is what annotate made of others
MISSING, A_FOLDER = "no such file", "a folder, not an image"


class Found(NamedTuple):
    """What folders and files hold.

    Attributes:
        samples: the images that have captions, in order.
        failures: what can't be used: images without captions or without a file, folders and captions that can't be
            read and, for whole folders, captions whose image is missing.
        images: how many images there are, with captions or without.
        positions: the place of each sample among all images that were found, whatever the shard.
        listing: hash of the names of all images that were found, whatever the shard.
        read: files that were read for all that, and folders whose files were: images and captions lie there.
    """

    samples: list[Sample]
    failures: list[Failure]
    images: int
    positions: list[int]
    listing: str = ""
    read: tuple[Path, ...] = ()


def load(
    inputs: Sequence[Path],
    captions: Path | None = None,
    phrases: Sequence[str] = (),
    *,
    recursive: bool = True,
    limit: int | None = None,
    shard: tuple[int, int] | None = None,
    chunk: int = 1,
) -> Found:
    """The images of folders and files, with what is said about them.

    Folders are searched in order of their names, files before subfolders; hidden files and folders, and subfolders
    that `annotate` has made, are passed over. An image is named by its path relative to its folder, to its list's
    folder, or to the part of a pattern before the first wildcard; a single file by its own name. Where two inputs
    would give one name twice, all names are relative to the inputs' common parent. An image reached twice is taken
    once.

    Args:
        inputs: folders, image files, lists of image files (.txt, .lst, .list: a path a line, relative to the list or
            else to the working directory; # begins a comment) and patterns ("photos/**/*.jpg"; ** doesn't follow links
            to folders).
        captions: a captions file or a folder of them. Without it, captions are looked for beside the images, unless
            there are phrases.
        phrases: given to every image, each as a caption of its own that is one phrase.
        recursive: whether folders are searched to the bottom.
        limit: take the first images only, at least 1.
        shard: (i, n), the i-th of n parts of these images: every n-th chunk of them, from the i-th on. What is wrong
            with no image in particular is reported with every part.
        chunk: how many images are one chunk.

    Raises:
        GroundcliError: an input or `captions` doesn't exist or can't be read, or an input holds no images.
        UsageError: a phrase is blank.
    """
    everywhere = [_as_caption(phrase) for phrase in phrases]
    inventory = _Inventory()
    for path in inputs:
        inventory.take(path, recursive)
    named = _named(inventory.images)
    part, parts = shard or (1, 1)
    places = {name: place for place, name in enumerate(islice(named, limit)) if place // chunk % parts == part - 1}
    chosen = {name: named[name] for name in places}
    if captions is not None:
        found = _named_captions(captions, list(named), chosen)
        if not any(source.whole for source in inventory.sources.values()):
            found.orphans.clear()
    elif phrases:
        found = Matched()
    else:
        found = _captions_beside(inventory.sources.values(), named, chosen)
    samples, failures = _samples(chosen, found, everywhere)
    problems = [_legible(failure) for failure in [*inventory.failures, *failures]]
    listing = hashlib.sha256("\n".join(islice(named, limit)).encode(errors="surrogateescape")).hexdigest()
    folders = dict.fromkeys((image.source.root / image.name).parent for image in named.values())
    read = (*folders, *([captions] if captions else []))
    return Found(samples, problems, len(chosen), [places[sample.name] for sample in samples], listing, read)


def parse_shard(text: str) -> tuple[int, int]:
    """(2, 8) of "2/8". Raises UsageError for anything but I/N, I from 1 to N."""
    match = re.fullmatch(r"\s*([0-9]{1,9})/([0-9]{1,9})\s*", text)
    part, parts = (int(number) for number in match.groups()) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"--shard {text}: expected I/N with I from 1 to N; 2/8 is the second of eight parts")
    return part, parts


# --- Images


@dataclass(eq=False, slots=True)
class _Source:
    """A folder that names are relative to.

    Attributes:
        root: as it was given.
        absolute: its one spelling; links keep their own names.
        whole: whether the folder itself was asked for, so that every file of it counts.
        images: names of its images that were asked for.
        texts: names of its other files, where it is whole.
    """

    root: Path
    absolute: str
    whole: bool = False
    images: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


class _Image(NamedTuple):
    """An image that was asked for.

    Attributes:
        source: where it lies.
        name: its path from the source's root, with forward slashes.
        problem: why it can't be used, where that is known.
    """

    source: _Source
    name: str
    problem: str = ""


class _Inventory:
    """The images that inputs mean, in order, and where they lie."""

    def __init__(self) -> None:
        self.sources: dict[tuple[str, bool], _Source] = {}
        self.images: list[_Image] = []
        self.failures: list[Failure] = []

    def take(self, path: Path, recursive: bool) -> None:
        """Adds the images of an input."""
        if _holds(path.is_dir):
            self._take_folder(path, recursive)
        elif os.path.lexists(path):
            if path.suffix.lower() in LIST_SUFFIXES:
                self._take_list(path)
            else:
                self._take_file(self._source(path.parent), path.name, _problem(path))
        elif WILDCARD.search(str(path)):
            self._take_pattern(path)
        else:
            raise GroundcliError(f"{path}: no such file or folder; check the path")

    def _source(self, root: Path, whole: bool = False) -> _Source:
        absolute = os.path.normpath(root.absolute())
        return self.sources.setdefault((absolute, whole), _Source(root, absolute, whole))

    def _take_file(self, source: _Source, name: str, problem: str) -> None:
        source.images.append(name)
        self.images.append(_Image(source, name, problem))

    def _take_folder(self, path: Path, recursive: bool) -> None:
        source = self._source(path, whole=True)
        if not source.images:
            files = _Files(path, recursive)
            if not files.images:
                if "" in files.unreadable:
                    raise GroundcliError(f"{path}: can't be searched ({files.unreadable['']}); check its permissions")
                if not recursive and _Files(path).images:
                    raise GroundcliError(
                        f"{path}: no images right in this folder, only in its subfolders; search those"
                    )
                raise GroundcliError(f"{path}: no images in this folder or below it; give a folder of .jpg, .png, ...")
            source.images, source.texts = list(files.images), files.texts
            reason = "this folder can't be searched ({}); check its permissions"
            self.failures += [Failure(name, reason.format(why)) for name, why in files.unreadable.items()]
            self.images += [_Image(source, name, problem) for name, problem in files.images.items()]

    def _take_list(self, path: Path) -> None:
        beside, working = self._source(path.parent), self._source(Path())
        count = missing = 0
        for number, line in numbered_lines(path):
            text = line.strip()
            if text.startswith("#"):
                continue
            source, file = beside, path.parent / text
            problem = _problem(file)
            if problem == MISSING and _problem(Path(text)) != MISSING:
                source, file = working, Path(text)
                problem = _problem(file)
            count += 1
            if problem == MISSING:
                problem = f"{MISSING}; line {number} of {path} asks for it"
                missing += 1
            name = PurePath(text)
            if name.is_absolute() or os.pardir in name.parts:
                source, name = self._source(file.parent), PurePath(file.name)
            self._take_file(source, name.as_posix(), problem)
        if count == missing:
            what = f"none of the {count} paths in it exists" if count else "no paths in it"
            raise GroundcliError(f"{path}: {what}; a list of images has a path a line")

    def _take_pattern(self, path: Path) -> None:
        fixed = next(number for number, part in enumerate(path.parts) if WILDCARD.search(part))
        root, pattern = Path(*path.parts[:fixed]), [*path.parts[fixed:]]
        if any("**" in part and part != "**" for part in pattern):
            raise UsageError(f"{path}: ** stands for whole folders, photos/**/*.jpg")
        if pattern[-1] == "**":
            pattern.append("*")
        matches = (match.relative_to(root).as_posix() for match in root.glob("/".join(pattern)))
        names = sorted({name for name in matches if _is_image(name) and not HIDDEN.search(name)}, key=_files_first)
        images = {name: problem for name in names if (problem := _problem(root / name)) != A_FOLDER}
        if not images:
            raise GroundcliError(f"{path}: no image matches this pattern; check it, or give a folder")
        source = self._source(root)
        for name, problem in images.items():
            self._take_file(source, name, problem)


class _Files:
    """Visible files of a folder, a folder at a time, in order; linked folders are entered, but none twice.

    Attributes:
        images: by name, with the reason why one can't be used.
        texts: names of all other files.
        unreadable: folders that can't be searched, with the reason.
    """

    def __init__(self, root: Path, recursive: bool = True, folders: Sequence[str] = ("",)) -> None:
        """Looks into some folders below the root; recursive: and into those below them."""
        self.images: dict[str, str] = {}
        self.texts: list[str] = []
        self.unreadable: dict[str, str] = {}
        entered: set[str] = set()
        waiting = [(folder, os.path.realpath(root / folder)) for folder in reversed(folders)]
        while waiting:
            here, real = waiting.pop()
            if real in entered:
                continue
            entered.add(real)
            below = self._read(root, here)
            if recursive:
                waiting += [(name, _real(entry, real)) for name, entry in reversed(below)]

    def _read(self, root: Path, here: str) -> list[tuple[str, "os.DirEntry[str]"]]:
        """Takes the files right in a folder, and gives the folders."""
        try:
            with os.scandir(root / here) as entries:
                visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            self.unreadable[here] = error.strerror or "error"
            return []
        if here and {entry.name for entry in visible} >= OWN:
            return []
        folders: list[tuple[str, os.DirEntry[str]]] = []
        for entry in visible:
            name = f"{here}/{entry.name}" if here else entry.name
            linked = entry.is_symlink()
            if _holds(Path(entry.path).is_dir if linked else entry.is_dir):
                folders.append((name, entry))
            elif _is_image(name):
                self.images[name] = _problem(Path(entry.path)) if linked else ""
            elif linked or entry.is_file():
                self.texts.append(name)
        return folders


def _real(folder: "os.DirEntry[str]", parent: str) -> str:
    """A folder's real path, from its parent's: only links need the system, which is asked for each part of a path."""
    return os.path.realpath(folder.path) if folder.is_symlink() else f"{parent.rstrip(os.sep)}{os.sep}{folder.name}"


def _is_image(name: str) -> bool:
    return splitext(name)[1].lower() in IMAGE_SUFFIXES


def _problem(path: Path) -> str:
    """Why an image can't be used, as far as that shows without reading it."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return MISSING
    if stat.S_ISLNK(mode) and not _holds(path.exists):
        return f"a link to {path.readlink()}, which isn't there"
    return A_FOLDER if stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and _holds(path.is_dir)) else ""


def _holds(check: Callable[[], bool]) -> bool:
    """What a check of a path says; no where nobody may look, or no such path can be."""
    try:
        return check()
    except OSError:
        return False


def _files_first(name: str) -> list[tuple[bool, str]]:
    """Orders names as folders are searched."""
    *folders, base = name.split("/")
    return [*((True, folder) for folder in folders), (False, base)]


def _named(images: Iterable[_Image]) -> dict[str, _Image]:
    """Every image once, by its name, in order."""
    once: dict[str, _Image] = {}
    for image in images:
        once.setdefault(_absolute(image.source, image.name), image)
    named = {image.name: image for image in once.values()}
    if len(named) == len(once):
        return named
    common = os.path.commonpath([image.source.absolute for image in once.values()])
    return {Path(absolute[len(common) :].lstrip(os.sep)).as_posix(): image for absolute, image in once.items()}


def _absolute(source: _Source, name: str) -> str:
    return f"{source.absolute.rstrip(os.sep)}{os.sep}{name.replace('/', os.sep)}"


# --- Captions


def _as_caption(phrase: str) -> Caption:
    text = phrase.strip()
    if not text:
        raise UsageError("--phrase: the phrase is blank")
    return Caption.of_phrase(text)


def _named_captions(path: Path, images: Sequence[str], chosen: Collection[str]) -> Matched:
    if _holds(path.is_file):
        return match_named(path, images, chosen)
    if not _holds(path.is_dir):
        raise GroundcliError(f"--captions {path}: no such file or folder; check the path")
    files = [file for file in _Files(path).texts if splitext(file)[1].lower() in SUFFIXES]
    if not files:
        raise GroundcliError(f"--captions {path}: no captions files in this folder or below it")
    return match_captions(files, path, images, chosen, anywhere=True)


def _captions_beside(sources: Iterable[_Source], images: dict[str, _Image], chosen: Collection[str]) -> Matched:
    names = {_absolute(image.source, image.name): name for name, image in images.items()}
    found = Matched()
    for source in sources:
        here, texts = source.images, source.texts
        if not source.whole:  # all images of the folders count when captions are told apart
            files = _Files(source.root, recursive=False, folders=sorted({"", *map(dirname, here)}))
            here, texts = list(dict.fromkeys([*here, *files.images])), files.texts
        local = {name: names.get(_absolute(source, name), "") for name in here}
        wanted = {name for name, called in local.items() if called in chosen}
        matched = match_captions(texts, source.root, here, wanted)
        found.captions.update({local[name]: lines for name, lines in matched.captions.items()})
        found.failures += [
            Failure(local.get(failure.path) or failure.path, failure.reason) for failure in matched.failures
        ]
        found.orphans += matched.orphans if source.whole else []
    return found


def _samples(
    images: dict[str, _Image], found: Matched, everywhere: Sequence[Caption]
) -> tuple[list[Sample], list[Failure]]:
    samples: list[Sample] = []
    failures = list(found.failures)
    explained = {failure.path for failure in failures}
    for name, image in images.items():
        problem = image.problem if is_unicode(name) else "its name isn't UTF-8; rename it"
        if problem:
            failures.append(Failure(name, problem))
            continue
        captions, broken = _parsed(name, found.captions.get(name, ()))
        failures += broken
        captions += everywhere
        if captions:
            samples.append(Sample(name, image.source.root / image.name, tuple(captions)))
        elif not broken and name not in explained:
            sidecar = basename(splitext(image.name)[0]) + ".txt"
            hint = f"put them in {sidecar} beside it, or give --captions or --phrase"
            failures.append(Failure(name, f"no caption: {hint}"))
    return samples, list(dict.fromkeys(failures + found.orphans))


def _parsed(name: str, lines: Sequence[str]) -> tuple[list[Caption], list[Failure]]:
    captions: list[Caption] = []
    failures: list[Failure] = []
    for line in lines:
        try:
            captions.append(parse(line))
        except BadInput as error:
            failures.append(Failure(name, str(error)))
    return captions, failures


def _legible(failure: Failure) -> Failure:
    """A failure that can be written down: names of files may be no Unicode."""
    if is_unicode(failure.path) and is_unicode(failure.reason):
        return failure
    return Failure(*(text.encode(errors="replace").decode() for text in (failure.path, failure.reason)))
