"""Which image each caption talks about: captions files and sidecars, matched with the names of images."""

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import basename, commonprefix, dirname, join, normpath, splitext

from groundcli.data import Failure
from groundcli.data.caption_files import FORMATS, SUFFIXES, Captions, Columns, is_unicode, numbered_lines, open_captions
from groundcli.data.images import is_image
from groundcli.errors import BadInput, GroundcliError

SIDECAR = ".txt"
SENTENCES = "Sentences"  # where Flickr30k Entities has its sidecars, away from the images
# Text files that people keep beside photographs and that aren't captions.
NOT_CAPTIONS = frozenset({"readme", "license", "licence", "copying", "notice", "changelog", "requirements"})


@dataclass(slots=True)
class Matched:
    """What captions files gave: captions by the name of their image; images, files and lines that can't be used; and
    captions whose image isn't there."""

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

    A file that names its images is matched as `_Matcher.meant_by` says, a sidecar as `_Matcher.beside`. A text file
    with the name of an image is its sidecar whatever it holds. Where two files caption one image, the first counts:
    files that name their images before sidecars, short names before long ones.

    Args:
        files: candidates, relative to the root with forward slashes; those that hold no captions are passed over.
        root: folder that the files lie in.
        images: names of the images, relative to their own root, forward slashes.
        wanted: the images to match; default is all. The others' captions are neither kept nor reported.
        anywhere: whether captions have a tree of their own: a sidecar may belong to the only image of its name.
    """
    matcher = _Matcher(images, wanted)
    sidecars: list[tuple[str, list[str]]] = []
    # Short names first: Flickr8k's `Flickr8k.token.txt` has the captions, its `Flickr8k.lemma.token.txt` base forms.
    for file in sorted(files, key=lambda file: (len(basename(file)), file)):
        stem, suffix = splitext(file)
        suffix = suffix.lower()
        owners = matcher.beside(file, anywhere) if suffix == SIDECAR else []
        if owners:
            sidecars.append((file, owners))
        elif suffix in SUFFIXES and basename(stem).lower() not in NOT_CAPTIONS:
            matcher.add_file(root / file, file)
    for file, owners in sidecars:
        matcher.add_sidecar(root / file, file, owners)
    return matcher.matched


def match_named(
    path: Path, images: Sequence[str], wanted: Collection[str] | None = None, columns: Columns = (None, None)
) -> Matched:
    """As `match_captions`, of one file that was asked for, whatever its suffix.

    Where it doesn't name its images itself, it belongs to the only image of its name, or to the only image. Raises
    GroundcliError where it is no captions file, or can't be read.
    """
    matcher = _Matcher(images, wanted)
    if captions := open_captions(path, any_suffix=True, columns=columns):
        matcher.add_file(path, path.name, captions)
        return matcher.matched
    owners = matcher.beside(path.name, anywhere=True) or (list(images) if len(images) == 1 else [])
    if not owners or path.suffix.lower() in SUFFIXES - {SIDECAR}:
        kinds = "; ".join(known.expected for known in FORMATS)
        raise GroundcliError(f"{path}: not a captions file; expected {kinds}; or a text file named as its image is")
    lines = read_sidecar(path)
    return Matched({image: lines for image in owners if image in matcher.wanted})


def read_sidecar(path: Path) -> list[str]:
    """The captions of one image: a caption per line, blank lines left out. Raises BadInput where it can't be that."""
    numbered = list(numbered_lines(path))
    if not numbered:
        raise BadInput(f"{path}: the file is empty; write a caption per line")
    for number, line in numbered:
        if not is_unicode(line):
            raise BadInput(f"{path}: line {number}: not UTF-8 text; save it as UTF-8")
    lines = [line.strip() for _, line in numbered]
    if open_captions(path, head=lines[:1]) is not None:
        raise BadInput(f"{path}: named as this image is, but it names images itself; rename it")
    return lines


class _Matcher:
    """Collects the captions of wanted images, and looks images up by the names that captions files call them."""

    def __init__(self, images: Sequence[str], wanted: Collection[str] | None) -> None:
        self.images = dict.fromkeys(images)
        self.wanted = frozenset(images if wanted is None else wanted)
        self.matched = Matched()
        self._by_path: dict[str, list[str]] = defaultdict(list)  # by stems: whatever the suffix
        self._by_base: dict[str, list[str]] = defaultdict(list)
        for image in images:
            stem = _stem(image)
            self._by_path[stem].append(image)
            self._by_base[basename(stem)].append(image)

    def add_file(self, path: Path, name: str, captions: Captions | None = None) -> None:
        """Adds a file's captions where it names its images; a text file that doesn't is captions without an image."""
        lines: dict[str, list[str]] = {}
        meant: dict[str, str | None] = {}
        try:
            captions = captions or open_captions(path)
            if captions is None and path.suffix.lower() == SIDECAR:
                self.matched.orphans.append(Failure(name, "captions, but there is no image of that name"))
            for caption in captions or ():
                if isinstance(caption, Failure):
                    self.matched.failures.append(Failure(join(dirname(name), caption.path), caption.reason))
                elif caption.text:
                    if caption.image not in meant:
                        meant[caption.image] = self._meant(caption.image, name)
                    if (image := meant[caption.image]) is not None:
                        lines.setdefault(image, []).append(caption.text)
        except BadInput as error:
            self.matched.failures.append(Failure(name, _reason(error, path)))
        self.matched.captions = lines | self.matched.captions

    def add_sidecar(self, path: Path, name: str, owners: Sequence[str]) -> None:
        """Adds the captions of a text file named as its images are."""
        owners = [image for image in owners if image in self.wanted and image not in self.matched.captions]
        try:
            lines = read_sidecar(path) if owners else []
            self.matched.captions.update(dict.fromkeys(owners, lines))
        except BadInput as error:
            self.matched.failures += [Failure(image, f"no caption: {name}: {_reason(error, path)}") for image in owners]

    def _meant(self, name: str, file: str) -> str | None:
        """The wanted image that a name in a file means; what can't be told is reported, unless nobody wants it."""
        candidates = self.meant_by(name, dirname(file))
        if len(candidates) == 1:
            return candidates[0] if candidates[0] in self.wanted else None
        if not candidates:
            self.matched.orphans.append(Failure(name, f"{file} has captions for it, but there is no such image"))
        elif any(image in self.wanted for image in candidates):
            reason = f"{file} has captions for it, but it may be any of {', '.join(candidates[:3])}"
            self.matched.failures.append(Failure(name, reason))
        return None

    def meant_by(self, name: str, folder: str) -> list[str]:
        """Images that a name in a file may mean; more than one where it can't be told.

        By path, relative to the file's own folder or to the root; or else by base name. Where no image is spelled just
        so, composed and decomposed letters (é) are the same, and so are .JPG and .jpg, and a backslash is a slash; a
        name that doesn't end as images do may be one of any kind.
        """
        for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
            path = normpath(spelled)
            for whole in dict.fromkeys((normpath(join(folder, path)), path)):
                if whole in self.images:
                    return [whole]
                if images := _called(whole, self._by_path):
                    return images
            if images := _called(basename(path), self._by_base):
                steps = path.split("/")[::-1]  # the image is meant that shares most of the path, from its end
                shared = [len(commonprefix([steps, image.split("/")[::-1]])) for image in images]
                return [image for image, parts in zip(images, shared, strict=True) if parts == max(shared)]
        return []

    def beside(self, sidecar: str, anywhere: bool) -> list[str]:
        """Images that a sidecar belongs to, by its path from the root: `a/dog.txt` to `a/dog.jpg`.

        It may belong to the only image of its name anywhere else too where so told, or if its folder is `Sentences`.
        """
        path = _stem(sidecar)
        if images := self._by_path.get(path):
            return images
        anywhere = anywhere or basename(dirname(path)) == SENTENCES
        namesakes = self._by_base.get(basename(path), []) if anywhere else []
        return namesakes if len(namesakes) == 1 else []


def _reason(error: BadInput, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _called(name: str, by_stem: Mapping[str, list[str]]) -> list[str]:
    """The images of a name, whatever case its suffix has; of any kind where it has no image's suffix."""
    if not is_image(name):
        return by_stem.get(_composed(name), [])
    suffix = splitext(name)[1].lower()
    return [image for image in by_stem.get(_stem(name), ()) if splitext(image)[1].lower() == suffix]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _stem(name: str) -> str:
    return splitext(_composed(name))[0]
