"""The user's own images: folders and files, with the captions found beside them or named."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from groundcli.data.captions import Matched, match_captions, names_its_images, read_sidecar
from groundcli.data.images import is_image
from groundcli.data.markup import parse
from groundcli.data.sample import Caption, Failure, Phrase, Sample
from groundcli.errors import BadInput, GroundcliError, UsageError


class Found(NamedTuple):
    """What folders and files hold.

    Attributes:
        samples: the images that have captions, in order.
        failures: what can't be used: images without captions, captions that can't be read and, for whole folders,
            captions whose image is missing.
        images: how many images there are, with captions or without.
    """

    samples: list[Sample]
    failures: list[Failure]
    images: int


def load(inputs: Sequence[Path], captions: Path | None = None, phrases: Sequence[str] = ()) -> Found:
    """The images of folders and files, with what is said about them.

    Folders are searched to the bottom, in order of their names; hidden files and folders are passed over. An image
    is named by its path relative to its folder, a single file by its own name; where two inputs would give one name
    twice, all names are relative to the inputs' common parent. An image reached twice is taken once.

    Args:
        inputs: folders and image files.
        captions: a captions file or a folder of them. Without it, captions are looked for beside the images, unless
            there are phrases.
        phrases: given to every image, each as a caption of its own that is one phrase.

    Raises:
        GroundcliError: an input or `captions` doesn't exist, or a folder holds no images.
        UsageError: a phrase is blank.
    """
    everywhere = [_as_caption(phrase) for phrase in phrases]
    sources = _sources(inputs)
    images = _named(sources)
    if captions is not None:
        found = _named_captions(captions, images)
        if not any(source.whole for source in sources):
            found.orphans.clear()
    elif phrases:
        found = Matched()
    else:
        found = _captions_beside(sources, images)
    return Found(*_samples(images, found, everywhere), len(images))


@dataclass(frozen=True, slots=True)
class _Source:
    """One input folder, or single files of one folder.

    Attributes:
        whole: whether the folder itself was asked for, so that every file of it counts.
    """

    root: Path
    images: list[Path]
    texts: list[Path]
    whole: bool


# --- Images


def _sources(inputs: Sequence[Path]) -> list[_Source]:
    sources: list[_Source] = []
    singles: dict[Path, _Source] = {}
    for path in inputs:
        if path.is_dir():
            files = list(_visible_files(path))
            images = [file for file in files if is_image(file)]
            if not images:
                raise GroundcliError(f"{path}: no images in this folder or below it; give a folder of .jpg, .png, ...")
            texts = [file for file in files if not is_image(file)]
            sources.append(_Source(path, images, texts, whole=True))
        elif path.exists():
            if path.parent not in singles:
                singles[path.parent] = _Source(path.parent, [], _texts(path.parent), whole=False)
                sources.append(singles[path.parent])
            singles[path.parent].images.append(path)
        else:
            raise GroundcliError(f"{path}: no such file or folder; check the path")
    return sources


def _visible_files(root: Path) -> Iterator[Path]:
    """All files below a folder, a folder at a time; linked folders are entered, but none twice."""
    entered: set[str] = set()
    for here, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))


def _texts(folder: Path) -> list[Path]:
    """Visible files right in a folder that aren't images."""
    return [path for path in folder.iterdir() if path.is_file() and path.name[0] != "." and not is_image(path)]


def _named(sources: Sequence[_Source]) -> dict[str, Path]:
    """Every image once, by its name, in order."""
    files: dict[str, tuple[Path, Path]] = {}
    for source in sources:
        for path in source.images:
            files.setdefault(_absolute(path), (source.root, path))
    named = {path.relative_to(root).as_posix(): path for root, path in files.values()}
    if len(named) == len(files):
        return named
    common = os.path.commonpath([_absolute(source.root) for source in sources])
    return {Path(os.path.relpath(absolute, common)).as_posix(): path for absolute, (_, path) in files.items()}


def _absolute(path: Path) -> str:
    """One spelling a place; links keep their own names."""
    return os.path.normpath(path.absolute())


# --- Captions


def _as_caption(phrase: str) -> Caption:
    text = phrase.strip()
    if not text:
        raise UsageError("--phrase: the phrase is blank")
    return Caption(text, (Phrase(text, (0, len(text))),))


def _named_captions(path: Path, images: dict[str, Path]) -> Matched:
    if path.is_dir():
        return match_captions(_visible_files(path), path, list(images), anywhere=True)
    if not path.is_file():
        raise GroundcliError(f"--captions {path}: no such file or folder; check the path")
    if len(images) == 1 and not names_its_images(path):
        return Matched(dict.fromkeys(images, read_sidecar(path)))
    return match_captions([path], path.parent, list(images), anywhere=True)


def _captions_beside(sources: Sequence[_Source], images: dict[str, Path]) -> Matched:
    names = {_absolute(path): name for name, path in images.items()}
    found = Matched()
    for source in sources:
        local = {path.relative_to(source.root).as_posix(): names[_absolute(path)] for path in source.images}
        matched = match_captions(source.texts, source.root, list(local))
        found.captions.update({local[name]: lines for name, lines in matched.captions.items()})
        found.failures += [
            Failure(local.get(failure.path, failure.path), failure.reason) for failure in matched.failures
        ]
        found.orphans += matched.orphans if source.whole else []
    return found


def _samples(
    images: dict[str, Path], found: Matched, everywhere: Sequence[Caption]
) -> tuple[list[Sample], list[Failure]]:
    samples: list[Sample] = []
    failures = list(found.failures)
    explained = {failure.path for failure in failures}
    for name, path in images.items():
        captions, broken = _parsed(name, found.captions.get(name, ()))
        failures += broken
        captions += everywhere
        if captions:
            samples.append(Sample(name, path, tuple(captions)))
        elif not broken and name not in explained:
            hint = f"put them in {path.with_suffix('.txt').name} beside it, or give --captions or --phrase"
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
