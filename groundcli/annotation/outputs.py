"""The files of a run, made of its journal."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundcli.annotation.folder import FAILURES, JOURNAL
from groundcli.annotation.journal import read
from groundcli.data.sample import Failure
from groundcli.files import replacing
from groundcli.output.categories import CATEGORIES
from groundcli.output.coco import write_coco
from groundcli.output.formats import FORMATS
from groundcli.output.record import Record
from groundcli.output.report import write_report


@dataclass(frozen=True)
class Count:
    """What became of the images: found = done + resumed + failed."""

    found: int
    done: int
    resumed: int
    failed: int

    def __str__(self) -> str:
        return f"{self.found} images found, {self.done} done, {self.resumed} resumed, {self.failed} failed"


@dataclass(frozen=True)
class Outputs:
    """Which files.

    Attributes:
        categories: what an annotation's category is: `phrase`, its `head` noun, or a `single` one.
        formats: beside COCO.
        report: whether to make the page to look through.
    """

    categories: str = "phrase"
    formats: tuple[str, ...] = ()
    report: bool = True


def write_outputs(out: Path, failures: Sequence[Failure], outputs: Outputs) -> int:
    """Makes all files of a finished journal, and `failures.jsonl` in the order of the paths.

    Args:
        out: the run's folder.
        failures: what couldn't be used from the start, beside what the journal knows.
        outputs: which files.

    Returns:
        How many failures there are.
    """

    def records() -> Iterator[Record]:
        return (record for record in read(out / JOURNAL) if "error" not in record)

    known = (failure for record in read(out / JOURNAL) for failure in _failures(record))
    everything = sorted({*failures, *known}, key=lambda failure: (failure.path, failure.reason))
    with replacing(out / FAILURES) as file:
        for failure in everything:
            file.write(json.dumps({"path": failure.path, "reason": failure.reason}, ensure_ascii=False) + "\n")
    category = CATEGORIES[outputs.categories]()
    write_coco(out, records, category)
    for name in outputs.formats:
        FORMATS[name](out, records, category)
    if outputs.report:
        write_report(out, records, [(failure.path, failure.reason) for failure in everything], out.resolve().name)
    return len(everything)


def _failures(record: Record) -> Iterator[Failure]:
    """Why an image couldn't be used, or which of its captions."""
    if "error" in record:
        yield Failure(record["file_name"], record["error"])
    for caption in record.get("captions", ()):
        if not caption["phrases"]:
            yield Failure(record["file_name"], f"no phrases in the caption {caption['caption']!r}")
