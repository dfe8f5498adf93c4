"""Phrases that a caption's writer marked: `[a man] rides [/EN#12/animals a brown horse]`."""

import re

from groundcli.data.sample import Caption, Phrase

# An innermost pair of brackets around something; Flickr30k Entities puts the entity's number and kinds before it.
MARK = re.compile(
    r"\[(?:/EN#(?P<entity>\w+)(?:/(?P<category>\w+))?(?:/\w+)*\s)?(?P<phrase>[^\[\]]*[^\[\]\s][^\[\]]*)\]"
)


def parse(text: str) -> Caption:
    """A caption without its marks, and its marked phrases in order.

    Plain brackets and Flickr30k Entities' markup may be mixed. Of several kinds ("/people/other") the first is the
    category. The text keeps every other character, spaces too; a phrase's span leaves out white space at its ends.

    Nothing is an error. Of nested brackets the innermost pair is the mark; outer ones, brackets without a partner
    and pairs around nothing stay in the text as they are.
    """
    pieces: list[str] = []
    phrases: list[Phrase] = []
    length = end = 0
    for mark in MARK.finditer(text):
        between, inside = text[end : mark.start()], mark["phrase"]
        phrase = inside.strip()
        start = length + len(between) + inside.index(phrase)
        phrases.append(
            Phrase(phrase, (start, start + len(phrase)), category=mark["category"] or "", entity=mark["entity"] or "")
        )
        pieces += between, inside
        length += len(between) + len(inside)
        end = mark.end()
    return Caption("".join([*pieces, text[end:]]), tuple(phrases))
