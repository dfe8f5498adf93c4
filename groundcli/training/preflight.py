"""What can be known before the first step: counts, files, a few decodes, free disk, images that mustn't be here."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from groundcli.data.images import decode
from groundcli.data.leaks import shared_images
from groundcli.data.sample import Sample
from groundcli.errors import BadInput, GroundcliError, UsageError

DECODED = 8  # images, evenly over the list
SHOWN = 3  # names in a message


def check_data(samples: Sequence[Sample]) -> Iterator[str]:
    """Lines about the images to learn from. Raises GroundcliError where there are under two, or none can be used."""
    if len(samples) < 2:
        raise GroundcliError(f"{len(samples)} images with captions: training tells pairs apart, and needs two at least")
    missing = [sample.name for sample in samples if not sample.image.is_file()]
    if len(missing) == len(samples):
        raise GroundcliError(f"{samples[0].image}: no such file, nor any other of the {len(samples)} images")
    captions = sum(len(sample.captions) for sample in samples)
    yield f"{len(samples)} images to learn from, {captions} captions"
    if missing:
        yield f"{len(missing)} images have no file and will be skipped: {_some(missing)}"
    tried = samples[:: max(1, len(samples) // DECODED)]
    bad = []
    for sample in tried:
        try:
            decode(sample.image)
        except BadInput:
            bad.append(sample.name)
    if len(bad) == len(tried):
        raise GroundcliError(f"none of {len(tried)} images tried can be decoded: {_some(bad)}")
    yield f"decoded {len(tried) - len(bad)} of {len(tried)} images tried" + (f", not {_some(bad)}" if bad else "")


def free_disk(out: Path) -> str:
    """A line about the disk that a run's folder lies on."""
    folder = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free in {folder}"


def check_leaks(samples: Sequence[Sample], evaluation: Mapping[str, Sequence[Sample]]) -> str:
    """A line about the evaluation splits, none of whose images, by name or by content, are among those to learn from.

    Raises:
        UsageError: some are.
    """
    if not evaluation:
        return "compared with no evaluation data; --evaluation DATASET=DIR names some"
    leaks = shared_images(samples, evaluation)
    if leaks:
        splits = ", ".join(dict.fromkeys(leak.split for leak in leaks))
        raise UsageError(
            f"{len(leaks)} images to learn from are also in {splits}: {_some([leak.learned for leak in leaks])}; "
            "numbers on it would mean nothing. Remove them, or add --allow-evaluation-images"
        )
    compared = ", ".join(f"{split} ({len(held)} images)" for split, held in evaluation.items())
    return f"no image to learn from is in {compared}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
