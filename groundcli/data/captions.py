"""Captions files: which image each line of them talks about.

To add a format: write a reader (path to `Entry`s, and `Failure`s for lines that can't be used) and list it in
`FORMATS`. Sidecars are no format of the list: any other `.txt` is one, its name alone says which image it belongs to.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from groundcli.data.sample import Failure
from groundcli.errors import BadInput

# Text files that people keep beside photographs and that aren't captions.
NOT_CAPTIONS = frozenset({"readme", "license", "licence", "copying", "notice", "changelog", "requirements"})


class Entry(NamedTuple):
    """One caption, and the image's name as the captions file has it."""

    image: str
    caption: str


class Format(NamedTuple):
    """A kind of file that names its images itself.

    Attributes:
        suffixes: how names of such files end, lower case.
        fits: whether a file with such a name is one, from its path and its first line that isn't blank.
        read: its captions in order; raises BadInput where the file as a whole can't be read.
    """

    suffixes: frozenset[str]
    fits: Callable[[Path, str], bool]
    read: Callable[[Path], Iterator[Entry | Failure]]


@dataclass(slots=True)
class Matched:
    """What captions files gave.

    Attributes:
        captions: by the name of their image.
        failures: images, files and lines that can't be used.
        orphans: captions whose image isn't there.
    """

    captions: dict[str, list[str]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    orphans: list[Failure] = field(default_factory=list)


# --- Flickr: name.jpg#0<tab>caption

TOKEN_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)")


def _is_token(path: Path, first_line: str) -> bool:
    return path.suffix.lower() == ".token" or TOKEN_LINE.fullmatch(first_line) is not None


def read_token(path: Path) -> Iterator[Entry | Failure]:
    """Flickr's token file: a line a caption, `name.jpg#0<tab>caption`."""
    for number, line in _lines(path):
        match = TOKEN_LINE.fullmatch(line)
        if match:
            yield Entry(match["image"].strip(), match["caption"].strip())
        else:
            yield Failure(f"{path.name}:{number}", "not of the form name.jpg#0<tab>caption; the line is left out")


FORMATS = (Format(frozenset({".token", ".txt"}), _is_token, read_token),)


# --- Sidecars: a caption a line


def read_sidecar(path: Path) -> list[str]:
    """The captions of one image: a caption a line, blank lines left out. Raises BadInput for text that isn't UTF-8."""
    return [line.strip() for _, line in _lines(path)]


# --- All of them


def names_its_images(path: Path) -> bool:
    """Whether a captions file says itself which images its captions belong to; a sidecar doesn't."""
    return _format(path) is not None


def match_captions(files: Iterable[Path], root: Path, images: Sequence[str], anywhere: bool = False) -> Matched:
    """Gives each image the captions that the files have for it.

    A file that names its images is matched by path, relative to the file or to the root, or else by base name where
    only one image has it. A sidecar `a/dog.txt` belongs to `a/dog.jpg`. Where two files caption one image, the
    first counts: files that name their images before sidecars, short names before long ones.

    Args:
        files: candidates; those that hold no captions are passed over.
        root: folder that the files lie in.
        images: names of the images, relative to their own root, forward slashes.
        anywhere: whether a sidecar may also belong to the only image of its name in another folder, as it must
            where captions have a tree of their own.
    """
    matched, names = Matched(), _Names(images)
    listed: list[tuple[Path, Format]] = []
    sidecars: list[Path] = []
    # Short names first: Flickr8k's `Flickr8k.token.txt` has the captions, its `Flickr8k.lemma.token.txt` base forms.
    for path in sorted(files, key=lambda path: (len(path.name), path)):
        if found := _format(path):
            listed.append((path, found))
        elif path.suffix.lower() == ".txt":
            sidecars.append(path)
    for path, found in listed:
        _match_listed(path, found, _relative(path, root), names, matched)
    for path in sidecars:
        _match_sidecar(path, _relative(path, root), names, anywhere, matched)
    return matched


class _Names:
    """Looks images up by the names that captions files call them."""

    def __init__(self, images: Sequence[str]) -> None:
        self.images = frozenset(images)
        self.by_base = _grouped(images, lambda path: path.name)
        self.by_stem_path = _grouped(images, lambda path: path.with_suffix("").as_posix())
        self.by_stem = _grouped(images, lambda path: path.stem)

    def listed(self, name: str, folder: PurePosixPath) -> list[str]:
        """Images that a name in a list may mean; the list lies in `folder`."""
        for path in ((folder / name).as_posix(), PurePosixPath(name).as_posix()):
            if path in self.images:
                return [path]
        return self.by_base.get(PurePosixPath(name).name, [])

    def beside(self, sidecar: PurePosixPath, anywhere: bool) -> list[str]:
        """Images that a sidecar may mean."""
        images = self.by_stem_path.get(sidecar.with_suffix("").as_posix(), [])
        namesakes = self.by_stem.get(sidecar.stem, []) if anywhere else []
        return images or (namesakes if len(namesakes) == 1 else [])


def _grouped(images: Sequence[str], key: Callable[[PurePosixPath], str]) -> Mapping[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for image in images:
        groups.setdefault(key(PurePosixPath(image)), []).append(image)
    return groups


def _match_listed(path: Path, found: Format, relative: PurePosixPath, names: _Names, matched: Matched) -> None:
    captions: dict[str, list[str]] = {}
    try:
        for item in found.read(path):
            if isinstance(item, Failure):
                matched.failures.append(Failure((relative.parent / item.path).as_posix(), item.reason))
            elif item.caption:
                captions.setdefault(item.image, []).append(item.caption)
    except BadInput as error:
        matched.failures.append(Failure(relative.as_posix(), _reason(error, path)))
    for image, lines in captions.items():
        candidates = names.listed(image, relative.parent)
        if len(candidates) == 1:
            matched.captions.setdefault(candidates[0], lines)
        elif candidates:
            reason = f"{relative} has captions for it, but it may be any of {', '.join(candidates[:3])}"
            matched.failures.append(Failure(image, reason))
        else:
            matched.orphans.append(Failure(image, f"{relative} has captions for it, but there is no such image"))


def _match_sidecar(path: Path, relative: PurePosixPath, names: _Names, anywhere: bool, matched: Matched) -> None:
    images = names.beside(relative, anywhere)
    if not images:
        if relative.stem.lower() not in NOT_CAPTIONS:
            matched.orphans.append(Failure(relative.as_posix(), "captions, but there is no image of that name"))
        return
    try:
        lines, reason = read_sidecar(path), "the file is empty"
    except BadInput as error:
        lines, reason = [], _reason(error, path)
    for image in images:
        if lines:
            matched.captions.setdefault(image, lines)
        elif image not in matched.captions:
            matched.failures.append(Failure(image, f"no caption: {relative}: {reason}"))


def _format(path: Path) -> Format | None:
    known = [known for known in FORMATS if path.suffix.lower() in known.suffixes]
    try:
        first_line = next((line for _, line in _lines(path, limit=4096)), "") if known else ""
    except BadInput:  # whoever reads the file reports it
        first_line = ""
    return next((format for format in known if format.fits(path, first_line)), None)


def _lines(path: Path, limit: int = -1) -> Iterator[tuple[int, str]]:
    """Numbered lines that aren't blank, of a file's first `limit` characters."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(limit)
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise BadInput(f"{path}: can't be read ({error.strerror}); check its permissions") from None
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _relative(path: Path, root: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(root).as_posix())


def _reason(error: BadInput, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
