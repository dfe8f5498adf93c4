"""Captions to words. Every caption, in training and in use, is cut by this one rule."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from typing import NamedTuple

# Letters and digits, also joined by hyphens; 's and 't of "man's", "don't"; any other sign by itself.
WORD = re.compile(r"\w+(?:-\w+)*|['’]\w+|[^\w\s]")

IRREGULAR = {"men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth"}


class Word(NamedTuple):
    """A word and its character offsets in the caption, end excluded."""

    text: str
    start: int
    end: int


def tokenize(caption: str) -> list[Word]:
    """The words of a caption, in order; signs of punctuation are words too."""
    return [Word(m.group(), m.start(), m.end()) for m in WORD.finditer(caption)]


def words_in(words: list[Word], span: tuple[int, int]) -> range:
    """Indices of the words that share a character with a span; empty where it holds no word."""
    inside = [i for i, word in enumerate(words) if word.start < span[1] and word.end > span[0]]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


def content_key(word: str) -> str:
    """What a word shares with its other forms of number, lower case; "" for stop words and signs of punctuation.

    Plurals lose their ending by Harman's rule (1991), "How effective is suffixing?".
    """
    key = word.lower()
    if key in stop_words() or not any(c.isalnum() for c in key):
        return ""
    if key in IRREGULAR:
        return IRREGULAR[key]
    if key.endswith("ies") and len(key) > 4:
        return key[:-3] + "y"
    if key.endswith(("sses", "shes", "ches", "xes")):
        return key[:-2]
    if key.endswith("s") and len(key) > 3 and not key.endswith(("ss", "us", "is")):
        return key[:-1]
    return key


def content_keys(text: str) -> set[str]:
    """`content_key` of all words of a text that have one."""
    return {content_key(word.text) for word in tokenize(text)} - {""}


@cache
def stop_words() -> frozenset[str]:
    """spaCy's English ones, lower case. Their file is run by its path, as importing spaCy takes seconds and torch."""
    spacy = Path(getattr(find_spec("spacy"), "origin", "")).parent
    return frozenset(run_path(str(spacy / "lang" / "en" / "stop_words.py"))["STOP_WORDS"])
