"""The names of images, and the ways in which captions files spell them."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from posixpath import basename, dirname, join, normpath, splitext

from groundcli.data.images import IMAGE_SUFFIXES

SENTENCES = "Sentences"  # where Flickr30k Entities has its sidecars, away from the images


class Names:
    """Looks images up by the names that captions files call them."""

    def __init__(self, images: Sequence[str]) -> None:
        """Takes the images' names, relative to their root, forward slashes."""
        self.images = images
        self.exact = frozenset(images)

    def meant_by(self, name: str, folder: str) -> list[str]:
        """Images that a name in a file may mean; more than one where it can't be told.

        By path, relative to the file's own folder or to the root; or else by base name, where the image that shares
        most of the path is meant. Where no image is spelled just so, composed and decomposed letters (é) are the same,
        and so are .JPG and .jpg, and a backslash is a slash; a name that doesn't end as images do may be one of any
        kind.
        """
        if splitext(name)[1].lower() in IMAGE_SUFFIXES:
            by_path, by_base, key = self._by_path, self._by_base, _folded
        else:
            by_path, by_base, key = self._by_stem_path, self._by_stem, _composed
        for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
            path = normpath(spelled)
            for whole in dict.fromkeys((normpath(join(folder, path)), path)):
                if whole in self.exact:
                    return [whole]
                if found := by_path.get(key(whole)):
                    return found
            if found := by_base.get(key(basename(path))):
                return _nearest(path, found)
        return []

    def beside(self, sidecar: str, anywhere: bool) -> list[str]:
        """Images that a sidecar belongs to: `a/dog.txt` to `a/dog.jpg`.

        Args:
            sidecar: its path from the root.
            anywhere: whether it may also belong to the only image of its name in another folder, as those in a folder
                `Sentences` do.
        """
        path = _composed(splitext(sidecar)[0])
        if images := self._by_stem_path.get(path):
            return images
        anywhere = anywhere or basename(dirname(path)) == SENTENCES
        namesakes = self._by_stem.get(basename(path), []) if anywhere else []
        return namesakes if len(namesakes) == 1 else []

    @cached_property
    def _by_path(self) -> Mapping[str, list[str]]:
        return _grouped(self.images, _folded)

    @cached_property
    def _by_base(self) -> Mapping[str, list[str]]:
        return _grouped(self.images, lambda name: _folded(basename(name)))

    @cached_property
    def _by_stem_path(self) -> Mapping[str, list[str]]:
        return _grouped(self.images, lambda name: _composed(splitext(name)[0]))

    @cached_property
    def _by_stem(self) -> Mapping[str, list[str]]:
        return _grouped(self.images, lambda name: _composed(basename(splitext(name)[0])))


def _grouped(images: Sequence[str], key: Callable[[str], str]) -> Mapping[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for image in images:
        groups.setdefault(key(image), []).append(image)
    return groups


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    """One spelling for all ways to write a file's name."""
    stem, suffix = splitext(_composed(name))
    return stem + suffix.lower()


def _nearest(path: str, images: list[str]) -> list[str]:
    """Those of some images that share most of a path, from its end."""
    if len(images) == 1:
        return images
    backwards = path.split("/")[::-1]
    shared = []
    for image in images:
        pairs = zip(backwards, image.split("/")[::-1], strict=False)
        shared.append(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return [image for image, parts in zip(images, shared, strict=True) if parts == max(shared)]
