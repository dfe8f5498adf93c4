"""What a run would do, found out by doing a little of it."""

import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from groundcli.annotation.local import annotate_batches
from groundcli.annotation.outputs import Outputs
from groundcli.annotation.run import Settings, annotate
from groundcli.annotation.work import Job, finder
from groundcli.data.folder import Found
from groundcli.grounder import Grounder

TRIED = 8  # images that time and disk are estimated by
SHOWN = 3  # captions whose phrases are shown
LONG = 200  # characters from which on a caption, or its phrases, are cut short


def plan(grounder: Grounder, found: Found, job: Job, settings: Settings, workers: int) -> Iterator[str]:
    """Lines to read: counts, phrases of the first captions, and the time and disk that all images would take.

    Some images, from the whole list, are annotated into a temporary folder; nothing else is written.
    """
    captions = sum(len(sample.captions) for sample in found.samples)
    yield f"{found.images} images found, {len(found.samples)} with captions; {captions} captions"
    yield f"{len(found.failures)} images or captions can't be used" + (
        f", the first: {found.failures[0].path}: {found.failures[0].reason}" if found.failures else ""
    )
    if not found.samples:
        return
    first = [sample.captions[0] for sample in found.samples[:SHOWN]]
    for caption in finder().find(first, job.phrases):
        phrases = " | ".join(phrase.text for phrase in caption.phrases) or "no phrases"
        yield f"{_shortened(caption.text)}  ->  {_shortened(phrases)}"
    step = max(1, len(found.samples) // TRIED)
    tried = found.samples[::step][:TRIED]
    some = found._replace(samples=tried, failures=[], positions=[*range(len(tried))])
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        started = time.perf_counter()
        annotate(
            partial(annotate_batches, grounder=grounder, job=replace(job, out=out), workers=workers),
            some,
            out,
            outputs=Outputs(report=job.report),
            settings=settings,
            run={},
            progress=lambda lines, _: lines,
        )
        seconds = (time.perf_counter() - started) / len(tried) * len(found.samples)
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / len(tried)
    megabytes = size * len(found.samples) / 1e6
    yield f"about {_duration(seconds)} and {megabytes:.0f} MB, by {len(tried)} images tried"


def _shortened(text: str) -> str:
    return textwrap.shorten(text, LONG, placeholder=" ...")


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
