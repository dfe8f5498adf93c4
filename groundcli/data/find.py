"""The user's own images: folders, files, lists of files and patterns, with the captions found beside them or named."""

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from posixpath import basename, dirname, join, splitext
from textwrap import shorten
from typing import NamedTuple

from groundcli.data import Caption, Failure, Sample
from groundcli.data.caption_files import SUFFIXES, Columns, is_unicode, numbered_lines
from groundcli.data.captions import Matched, match_captions, match_named
from groundcli.data.images import is_image
from groundcli.data.phrases import parse
from groundcli.errors import BadInput, GroundcliError, UsageError

LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})
WILDCARD = re.compile(r"[*?\[]")
UNMARKED = re.compile(r"[\[\]]")  # what `parse` leaves in a caption
HIDDEN = re.compile(r"(^|/)\.")
ANNOTATED = {"run.json", "annotations.jsonl"}  # a folder that holds these is what annotate made of others
LONGEST = 20_000  # characters of a caption: several pages; what is longer is no caption, and may end no run
LONGEST_WORD = 500  # characters without white space: spaCy's time grows with the square of them
A_FOLDER = "a folder, not an image"


class Found(NamedTuple):
    """What folders and files hold."""

    samples: list[Sample]  # the images that have captions, in order
    failures: list[Failure]  # images without captions or without a file, folders and captions that can't be read
    images: int  # how many there are, with captions or without
    positions: list[int]  # the place of each sample among all images that were found, whatever the shard
    listing: str  # hash of the names of all images that were found, whatever the shard
    read: tuple[Path, ...]  # files that were read for all that, and folders whose images and captions were
    notes: tuple[str, ...] = ()  # a line on captions without an image, in whole folders; on brackets that mark nothing


def load(
    inputs: Sequence[Path],
    captions: Path | None = None,
    phrases: Sequence[str] | None = (),
    *,
    columns: Columns = (None, None),
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
    once. Raises GroundcliError where an input or `captions` doesn't exist or can't be read, an input holds no images,
    or no image has a caption; UsageError where a phrase is blank.

    Args:
        inputs: folders, image files, lists of image files (.txt, .lst, .list: a path per line, relative to the list or
            else to the working directory; # begins a comment) and patterns ("photos/**/*.jpg"; ** doesn't follow links
            to folders).
        captions: a captions file or a folder of them; else they are looked for beside the images, unless there are
            phrases.
        phrases: given to every image, each as a caption of its own that is one phrase; None where a command takes none.
        columns: of the image and of the caption, where `captions` is a table; by their names in it.
        recursive: whether folders are searched to the bottom.
        limit: take the first images only, at least 1.
        shard: (i, n), every n-th chunk of these images, from the i-th on. What is wrong with no image in particular is
            reported with every part.
        chunk: how many images are one chunk.
    """
    everywhere = [Caption.of_phrase(phrase.strip()) for phrase in phrases or ()]
    for caption in everywhere:
        if reason := _too_long(caption.text) if caption.text else "the phrase is blank":
            raise UsageError(f"--phrase: {reason}")
    ways = "--captions" if phrases is None else "--captions or --phrase"
    asked = _Asked()
    for path in inputs:
        asked.add(path, recursive)
    named = _named(asked.images)
    part, parts = shard or (1, 1)
    places = {name: place for place, name in enumerate(islice(named, limit)) if place // chunk % parts == part - 1}
    chosen = {name: named[name] for name in places}
    if captions is not None:
        matched = _captions_named(captions, list(named), chosen, columns)
        if not any(root.whole for root in asked.roots.values()):
            matched.orphans.clear()
    elif phrases:
        matched = Matched()
    else:
        matched = _captions_beside(asked.roots.values(), named, chosen)
    samples, failures = _samples(chosen, matched, everywhere, ways)
    if parts == 1 and not (matched.captions or matched.failures or everywhere):
        other = f" ({matched.orphans[0].path}: {matched.orphans[0].reason})" if matched.orphans else ""
        raise GroundcliError(
            f"{captions or inputs[0]}: no caption for any of the {len(chosen)} images{other}; "
            f"put NAME.txt beside NAME.jpg, a caption per line, or give {ways}"
        )
    listing = hashlib.sha256("\n".join(islice(named, limit)).encode(errors="surrogateescape")).hexdigest()
    folders = dict.fromkeys((image.root.path / image.name).parent for image in named.values())
    return Found(
        samples,
        [_legible(failure) for failure in [*asked.failures, *failures]],
        len(chosen),
        [places[sample.name] for sample in samples],
        listing,
        (*folders, *([captions] if captions else [])),
        _notes(samples, matched.orphans) if chosen else (f"this shard has no images: there are too few for {parts}",),
    )


# --- Images


@dataclass(eq=False, slots=True)
class _Root:
    """A folder that names are relative to."""

    path: Path  # as it was given
    absolute: str  # its one spelling; links keep their own names
    whole: bool  # whether the folder itself was asked for, so that every file of it counts
    images: list[str] = field(default_factory=list)  # names of its images that were asked for
    texts: list[str] = field(default_factory=list)  # names of its other files, where it is whole

    def at(self, name: str) -> str:
        """The one spelling of a file's path."""
        return f"{self.absolute.rstrip(os.sep)}{os.sep}{name.replace('/', os.sep)}"


class _Image(NamedTuple):
    root: _Root  # where it lies
    name: str  # its path from there, with forward slashes
    problem: str  # why it can't be used, where that is known


class _Asked:
    """The images that inputs ask for, each once, in order, and the folders that they are named from."""

    def __init__(self) -> None:
        self.roots: dict[tuple[str, bool], _Root] = {}
        self.images: dict[str, _Image] = {}  # by the one spelling of their paths
        self.failures: list[Failure] = []

    def add(self, path: Path, recursive: bool) -> None:
        if _is_folder(path):
            self._add_folder(path, recursive)
        elif os.path.lexists(path):
            if path.suffix.lower() in LIST_SUFFIXES:
                self._add_list(path)
            elif path.suffix.lower() in SUFFIXES:
                raise GroundcliError(
                    f"{path}: captions, not images; name the folder of the images, and this --captions"
                )
            else:
                self._add_image(self._root(path.parent), path.name, _problem(path))
        elif WILDCARD.search(str(path)):
            self._add_pattern(path)
        else:
            raise GroundcliError(f"{path}: no such file or folder; check the path")

    def _root(self, path: Path, whole: bool = False) -> _Root:
        absolute = os.path.normpath(path.absolute())
        return self.roots.setdefault((absolute, whole), _Root(path, absolute, whole))

    def _add_image(self, root: _Root, name: str, problem: str) -> None:
        root.images.append(name)
        self.images.setdefault(root.at(name), _Image(root, name, problem))

    def _add_folder(self, path: Path, recursive: bool) -> None:
        root = self._root(path, whole=True)
        if root.images:
            return
        files = _Files(path, recursive)
        if not files.images:
            if "" in files.unreadable:
                raise GroundcliError(f"{path}: can't be searched ({files.unreadable['']}); check its permissions")
            if not recursive and _Files(path).images:
                raise GroundcliError(f"{path}: no images right in this folder, only in its subfolders; search those")
            raise GroundcliError(f"{path}: no images in this folder or below it; give a folder of .jpg, .png, ...")
        root.texts = files.texts
        for folder, why in files.unreadable.items():
            self.failures.append(Failure(folder, f"this folder can't be searched ({why}); check its permissions"))
        for name, problem in files.images.items():
            self._add_image(root, name, problem)

    def _add_list(self, path: Path) -> None:
        count = missing = 0
        self._root(path.parent)  # the first, whatever the lines name
        for number, line in numbered_lines(path):
            text = line.strip()
            if text.startswith("#"):
                continue
            there = next((folder for folder in (path.parent, Path()) if os.path.lexists(folder / text)), None)
            folder, name = there or path.parent, PurePath(text)
            count, missing = count + 1, missing + (there is None)
            problem = _problem(folder / text) if there else f"no such file; line {number} of {path} asks for it"
            if name.is_absolute() or os.pardir in name.parts:
                folder, name = (folder / text).parent, PurePath(name.name)
            self._add_image(self._root(folder), name.as_posix(), problem)
        if count == missing:
            what = f"none of the {count} paths in it exists" if count else "no paths in it"
            raise GroundcliError(f"{path}: {what}; a list of images has a path per line")

    def _add_pattern(self, path: Path) -> None:
        fixed = next(number for number, part in enumerate(path.parts) if WILDCARD.search(part))
        folder, pattern = Path(*path.parts[:fixed]), [*path.parts[fixed:]]
        if any("**" in part and part != "**" for part in pattern):
            raise UsageError(f"{path}: ** stands for whole folders, photos/**/*.jpg")
        if pattern[-1] == "**":
            pattern.append("*")
        matches = (match.relative_to(folder).as_posix() for match in folder.glob("/".join(pattern)))
        names = {name for name in matches if is_image(name) and not HIDDEN.search(name)}
        images = {name: problem for name in names if (problem := _problem(folder / name)) != A_FOLDER}
        if not images:
            raise GroundcliError(f"{path}: no image matches this pattern; check it, or give a folder")
        for name in sorted(images, key=lambda name: (dirname(name).split("/"), name)):  # as a folder is searched
            self._add_image(self._root(folder), name, images[name])


class _Files:
    """Visible files of a folder, a folder at a time, in order; linked folders are entered, but none twice."""

    def __init__(self, root: Path, recursive: bool = True, folders: Sequence[str] = ("",)) -> None:
        """Looks into some folders below the root; recursive: and into those below them."""
        self.images: dict[str, str] = {}  # by name, with the reason why one can't be used
        self.texts: list[str] = []  # names of all other files
        self.unreadable: dict[str, str] = {}  # folders that can't be searched, with the reason
        entered: set[tuple[int, int]] = set()  # by device and number: links give a folder several paths
        waiting = list(reversed(folders))
        while waiting:
            here = waiting.pop()
            try:
                status = (root / here).stat()
                entries = sorted(os.scandir(root / here), key=lambda entry: entry.name)
            except OSError as error:
                self.unreadable[here] = error.strerror or "error"
                continue
            place = status.st_dev, status.st_ino
            if place in entered or (here and {entry.name for entry in entries} >= ANNOTATED):
                continue
            entered.add(place)
            below: list[str] = []
            for entry in entries:
                name, linked = join(here, entry.name), entry.is_symlink()
                if entry.name[0] == ".":
                    continue
                if _is_folder(Path(entry.path)) if linked else entry.is_dir():
                    below.append(name)
                elif is_image(name):
                    self.images[name] = _problem(Path(entry.path)) if linked else ""
                elif linked or entry.is_file():
                    self.texts.append(name)
            if recursive:
                waiting += reversed(below)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - pathlib's raises where a name is too long to be one


def _problem(path: Path) -> str:
    """Why an image that is there can't be used, as far as that shows without reading it."""
    try:
        return A_FOLDER if stat.S_ISDIR(path.stat().st_mode) else ""
    except OSError:
        return f"a link to {path.readlink()}, which isn't there"


def _named(images: Mapping[str, _Image]) -> dict[str, _Image]:
    """Images of some paths by their names, in order."""
    named = {image.name: image for image in images.values()}
    if len(named) == len(images):
        return named
    common = os.path.commonpath([image.root.absolute for image in images.values()])
    return {Path(absolute[len(common) :].lstrip(os.sep)).as_posix(): image for absolute, image in images.items()}


# --- Captions


def _captions_named(path: Path, images: Sequence[str], chosen: Collection[str], columns: Columns) -> Matched:
    if not os.path.lexists(path):
        raise GroundcliError(f"--captions {path}: no such file or folder; check the path")
    if not _is_folder(path):
        try:
            return match_named(path, images, chosen, columns)
        except BadInput as error:  # nothing of the run can be read, not one image
            raise GroundcliError(str(error)) from None
    files = [file for file in _Files(path).texts if splitext(file)[1].lower() in SUFFIXES]
    if not files:
        raise GroundcliError(f"--captions {path}: no captions files in this folder or below it")
    return match_captions(files, path, images, chosen, anywhere=True)


def _captions_beside(roots: Iterable[_Root], images: dict[str, _Image], chosen: Collection[str]) -> Matched:
    names = {image.root.at(image.name): name for name, image in images.items()}
    total = Matched()
    for root in roots:
        here, texts = root.images, root.texts
        if not root.whole:  # all images of the folders count when captions are told apart
            files = _Files(root.path, recursive=False, folders=sorted({"", *map(dirname, here)}))
            here, texts = list(dict.fromkeys([*here, *files.images])), files.texts
        local = {name: names.get(root.at(name), "") for name in here}
        wanted = {name for name, called in local.items() if called in chosen}
        matched = match_captions(texts, root.path, here, wanted)
        total.captions.update({local[name]: lines for name, lines in matched.captions.items()})
        total.failures += [Failure(local.get(f.path) or f.path, f.reason) for f in matched.failures]
        total.orphans += matched.orphans if root.whole else []
    return total


def _samples(
    images: dict[str, _Image], matched: Matched, everywhere: Sequence[Caption], ways: str
) -> tuple[list[Sample], list[Failure]]:
    samples: list[Sample] = []
    failures = list(matched.failures)
    explained = {failure.path for failure in failures}
    for name, image in images.items():
        problem = image.problem if is_unicode(name) else "its name isn't UTF-8; rename it"
        if problem:
            failures.append(Failure(name, problem))
            continue
        texts = matched.captions.get(name, ())
        too_long = {text: reason for text in texts if (reason := _too_long(text))}
        failures += [Failure(name, reason) for reason in too_long.values()]
        captions = [*(parse(text) for text in texts if text not in too_long), *everywhere]
        if captions:
            samples.append(Sample(name, image.root.path / image.name, tuple(captions)))
        elif name not in explained and not texts:
            sidecar = basename(splitext(image.name)[0]) + ".txt"
            failures.append(Failure(name, f"no caption: put them in {sidecar} beside it, or give {ways}"))
    return samples, list(dict.fromkeys(failures))


def _notes(samples: Iterable[Sample], orphans: Sequence[Failure]) -> tuple[str, ...]:
    notes = []
    if orphans:
        first = _legible(orphans[0])
        others = len({orphan.path for orphan in orphans}) - 1
        notes.append(f"{first.path}: {first.reason}" + (f"; and {others} more" if others else ""))
    odd = [(s.name, caption.text) for s in samples for caption in s.captions if UNMARKED.search(caption.text)]
    if odd:
        count = "1 caption has" if len(odd) == 1 else f"{len(odd)} captions have"
        notes.append(f"{count} a bracket that marks no phrase: {odd[0][0]}: {shorten(odd[0][1], 80)}")
    return tuple(notes)


def _too_long(text: str) -> str:
    """Why a caption takes too long to read; empty where it doesn't."""
    if len(text) > LONGEST:
        return f"a caption of {len(text):,} characters, {text[:20]!r}...; at most {LONGEST:,} are read"
    word = max(text.split(), key=len, default="")
    if len(word) > LONGEST_WORD:
        return f"a caption with {len(word):,} characters in a row, {word[:20]!r}...; at most {LONGEST_WORD} are read"
    return ""


def _legible(failure: Failure) -> Failure:
    """A failure that can be written down: names of files may be no Unicode."""
    return Failure(*(text.encode(errors="replace").decode() for text in (failure.path, failure.reason)))
