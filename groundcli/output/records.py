"""What a run knows of its images, as its files are made of it."""

from collections.abc import Callable, Iterator
from typing import Any

Record = dict[str, Any]  # of one image, as `annotations.jsonl` has it: see groundcli.annotation.record
Records = Callable[[], Iterator[Record]]  # each call goes over all images, in order; nothing is kept in memory


def phrases(records: Records) -> Iterator[tuple[Record, str, Record]]:
    """(image, caption, phrase) of every phrase, in order."""
    for record in records():
        for caption in record["captions"]:
            for phrase in caption["phrases"]:
                yield record, caption["caption"], phrase
