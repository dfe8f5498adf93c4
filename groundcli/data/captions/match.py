"""Which image each caption talks about: captions files and sidecars, matched with the names of images."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import basename, dirname, join, splitext

from groundcli.data.captions.formats import FORMATS, SUFFIXES, find_listing, open_listing
from groundcli.data.captions.lines import is_unicode, numbered_lines
from groundcli.data.captions.names import Names
from groundcli.data.captions.records import Entries
from groundcli.data.sample import Failure
from groundcli.errors import BadInput, GroundcliError

SIDECAR = ".txt"
# Text files that people keep beside photographs and that aren't captions.
NOT_CAPTIONS = frozenset({"readme", "license", "licence", "copying", "notice", "changelog", "requirements"})


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


def match_captions(
    files: Iterable[str],
    root: Path,
    images: Sequence[str],
    wanted: Collection[str] | None = None,
    anywhere: bool = False,
) -> Matched:
    """Gives each image the captions that the files have for it.

    A file that names its images is matched as `Names.meant_by` says, a sidecar as `Names.beside`. A text file with the
    name of an image is its sidecar whatever it holds. Where two files caption one image, the first counts: files that
    name their images before sidecars, short names before long ones.

    Args:
        files: candidates, relative to the root with forward slashes; those that hold no captions are passed over.
        root: folder that the files lie in.
        images: names of the images, relative to their own root, forward slashes.
        wanted: the images to match; default is all. The others' captions are neither kept nor reported.
        anywhere: whether every sidecar may belong to the only image of its name in another folder, as it must where
            captions have a tree of their own.
    """
    matcher = _Matcher(images, wanted)
    sidecars: list[tuple[str, list[str]]] = []
    # Short names first: Flickr8k's `Flickr8k.token.txt` has the captions, its `Flickr8k.lemma.token.txt` base forms.
    for file in sorted(files, key=lambda file: (len(basename(file)), file)):
        stem, suffix = splitext(file)
        suffix = suffix.lower()
        owners = matcher.names.beside(file, anywhere) if suffix == SIDECAR else []
        if owners:
            sidecars.append((file, owners))
        elif suffix in SUFFIXES and basename(stem).lower() not in NOT_CAPTIONS:
            matcher.listing_or_stray(root / file, file)
    for file, owners in sidecars:
        matcher.sidecar(root / file, file, owners)
    return matcher.matched


def match_named(path: Path, images: Sequence[str], wanted: Collection[str] | None = None) -> Matched:
    """As `match_captions`, of one file that was asked for, whatever its suffix.

    Where it doesn't name its images itself, it belongs to the only image of its name, or to the only image.

    Raises:
        GroundcliError: it is no captions file, or can't be read.
    """
    matcher = _Matcher(images, wanted)
    items = open_listing(path, any_suffix=True)
    if items is not None:
        matcher.listing(items, path, path.name)
        return matcher.matched
    suffix = path.suffix.lower()
    owners = matcher.names.beside(path.name, anywhere=True) or (list(images) if len(images) == 1 else [])
    if not owners or suffix in SUFFIXES - {SIDECAR}:
        kinds = "; ".join(known.expected for known in FORMATS)
        raise GroundcliError(f"{path}: not a captions file; expected {kinds}; or a text file named as its image is")
    captions = read_sidecar(path)
    if not captions:
        raise BadInput(f"{path}: the file is empty; write a caption a line")
    return Matched({image: captions for image in owners if image in matcher.wanted})


def read_sidecar(path: Path) -> list[str]:
    """The captions of one image: a caption a line, blank lines left out. Raises BadInput for what isn't UTF-8 text."""
    captions = [line.strip() for _, line in numbered_lines(path)]
    if not all(is_unicode(caption) for caption in captions):
        raise BadInput(f"{path}: not UTF-8 text; save it as UTF-8")
    return captions


class _Matcher:
    """Collects the captions of wanted images."""

    def __init__(self, images: Sequence[str], wanted: Collection[str] | None) -> None:
        self.names = Names(images)
        self.wanted = self.names.exact if wanted is None else frozenset(wanted)
        self.matched = Matched()

    def listing_or_stray(self, path: Path, name: str) -> None:
        """Takes a file's captions where it names its images; a text file that doesn't is captions without an image."""
        try:
            items = open_listing(path)
        except BadInput as error:
            self.matched.failures.append(Failure(name, _reason(error, path)))
            return
        if items is not None:
            self.listing(items, path, name)
        elif path.suffix.lower() == SIDECAR:
            self.matched.orphans.append(Failure(name, "captions, but there is no image of that name"))

    def listing(self, items: Entries, path: Path, name: str) -> None:
        """Takes the captions of a file that names its images."""
        captions: dict[str, list[str]] = {}
        meant: dict[str, str | None] = {}
        try:
            for item in items:
                if isinstance(item, Failure):
                    self.matched.failures.append(Failure(join(dirname(name), item.path), item.reason))
                    continue
                if not item.caption:
                    continue
                if item.image not in meant:
                    meant[item.image] = self._meant(item.image, name)
                image = meant[item.image]
                if image is not None:
                    captions.setdefault(image, []).append(item.caption)
        except BadInput as error:
            self.matched.failures.append(Failure(name, _reason(error, path)))
        for image, lines in captions.items():
            self.matched.captions.setdefault(image, lines)

    def sidecar(self, path: Path, name: str, owners: Sequence[str]) -> None:
        """Takes the captions of a text file named as its images are."""
        owners = [image for image in owners if image in self.wanted]
        if not owners:
            return
        try:
            lines, reason = read_sidecar(path), "the file is empty"
            if find_listing(path, lines[:1]) is not None:
                lines, reason = [], "named as this image is, but it names images itself; rename it"
        except BadInput as error:
            lines, reason = [], _reason(error, path)
        for image in owners:
            if lines:
                self.matched.captions.setdefault(image, lines)
            elif image not in self.matched.captions:
                self.matched.failures.append(Failure(image, f"no caption: {name}: {reason}"))

    def _meant(self, name: str, file: str) -> str | None:
        """The wanted image that a name in a file means; what can't be told is reported, unless nobody wants it."""
        candidates = self.names.meant_by(name, dirname(file))
        if len(candidates) == 1:
            return candidates[0] if candidates[0] in self.wanted else None
        if not candidates:
            self.matched.orphans.append(Failure(name, f"{file} has captions for it, but there is no such image"))
        elif any(image in self.wanted for image in candidates):
            reason = f"{file} has captions for it, but it may be any of {', '.join(candidates[:3])}"
            self.matched.failures.append(Failure(name, reason))
        return None


def _reason(error: BadInput, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
