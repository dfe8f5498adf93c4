import subprocess
import sys
import time

import pytest

from groundcli.data import Caption, Phrase
from groundcli.data.phrases import How, PhraseFinder, content_key, parse, stop_words, tokenize, words_in


@pytest.fixture(scope="module")
def finder() -> PhraseFinder:
    return PhraseFinder()


def found(finder: PhraseFinder, text: str, how: How) -> list[str]:
    (caption,) = finder.find([Caption(text)], how)
    assert caption.text == text
    assert all(text[slice(*phrase.span)] == phrase.text for phrase in caption.phrases)
    return [phrase.text for phrase in caption.phrases]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A man in a blue shirt is standing on a ladder .", ["A man", "a blue shirt", "a ladder"]),
        (
            "A group of people sit in a pool of water .",
            ["A group of people", "a pool of water"],
        ),  # people mark these as one
        ("A dog stands in front of a red house .", ["A dog", "a red house"]),  # "front" is no thing
        ("A boy sits on top of a car .", ["A boy", "a car"]),
        ("A woman looks at him while they talk to each other .", ["A woman"]),  # pronouns point back
        ("A man who holds a dog that barks .", ["A man", "a dog"]),
        ("Someone throws something .", ["Someone", "something"]),  # but these name what nothing else does
        ("A  man\twalks  two  dogs ", ["A  man", "two  dogs"]),  # spaces stay as they are
        ("They hold a cat 🐈 on the couch -- *** !!!", ["a cat", "the couch"]),  # without a letter it names nothing
        ("", []),
    ],
)
def test_noun_phrases(finder: PhraseFinder, text: str, expected: list[str]) -> None:
    assert found(finder, text, "noun") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A man isn't riding the 2 brown horses !", ["man", "riding", "brown", "horses"]),
        ("of the and", []),
    ],
)
def test_words(finder: PhraseFinder, text: str, expected: list[str]) -> None:
    assert found(finder, text, "words") == expected


def test_whole_caption_without_the_spaces_around_it(finder: PhraseFinder) -> None:
    assert found(finder, " a red car ", "caption") == ["a red car"]
    assert found(finder, "", "caption") == []


def test_marks_count_before_nouns(finder: PhraseFinder) -> None:
    marked = Caption("A dog and a cat", (Phrase("a cat", (10, 15), category="animals"),))
    plain = Caption("A dog and a cat")
    captions = [plain, marked, plain]

    def texts(how: How) -> list[list[str]]:
        return [[phrase.text for phrase in caption.phrases] for caption in finder.find(captions, how)]

    assert texts("auto") == [["A dog", "a cat"], ["a cat"], ["A dog", "a cat"]]
    assert texts("marked") == [[], ["a cat"], []]
    assert texts("noun") == [["A dog", "a cat"]] * 3
    assert finder.find(captions, "auto")[1] is marked  # category and all


# --- Marks


@pytest.mark.parametrize(
    ("marked", "text", "phrases"),
    [
        ("[a man] rides [a brown horse]", "a man rides a brown horse", ["a man", "a brown horse"]),
        ("[/EN#12/people A man] runs .", "A man runs .", ["A man"]),
        ("[/EN#1/people A man] and [a dog]", "A man and a dog", ["A man", "a dog"]),  # mixed
        ("a man rides", "a man rides", []),
        ("", "", []),
        ("Two  [men]  talk", "Two  men  talk", ["men"]),  # spacing stays
        ("[ a man ] rides", " a man  rides", ["a man"]),  # but the span has none at its ends
        ("[the [red] car]", "[the red car]", ["red"]),  # nested: the innermost pair
        ("a [man rides", "a [man rides", []),  # stray brackets are text
        ("a man] rides [it]", "a man] rides it", ["it"]),
        ("[] and [ ]", "[] and [ ]", []),  # nothing marked
        ("[Ein Café] in [東京]", "Ein Café in 東京", ["Ein Café", "東京"]),
        ("[a dog][a cat]", "a doga cat", ["a dog", "a cat"]),
        ("[/EN#12/people]", "/EN#12/people", ["/EN#12/people"]),  # no phrase in the markup: a plain mark
        ("[/EN#12/people  ]", "/EN#12/people  ", ["/EN#12/people"]),
        ("[/EN#12/people  A man ]", " A man ", ["A man"]),
    ],
)
def test_parse(marked: str, text: str, phrases: list[str]) -> None:
    caption = parse(marked)
    assert caption.text == text
    assert [phrase.text for phrase in caption.phrases] == phrases
    assert all(caption.text[slice(*phrase.span)] == phrase.text for phrase in caption.phrases)


def test_entities_and_categories() -> None:
    first, second, third = parse("[/EN#12/people A man] in [/EN#7/vehicles/scene a car] with [a hat]").phrases
    assert (first.entity, first.category) == ("12", "people")
    assert (second.entity, second.category) == ("7", "vehicles")  # the first of several kinds
    assert (third.entity, third.category) == ("", "")


@pytest.mark.parametrize(
    "text",
    ["[" + "a " * 200_000, "[" * 200_000 + "a" + "]" * 200_000, "[/EN#1" + "/a" * 200_000, "[a]" * 100_000],
    ids=["unclosed", "nested", "kinds", "many"],
)
def test_the_time_is_in_proportion_to_the_length(text: str) -> None:
    began = time.perf_counter()
    parse(text)
    assert time.perf_counter() - began < 10  # in the square of it, it would be minutes


# --- Words


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man 's hat .", ["A", "man", "'s", "hat", "."]),
        ("The man's T-shirt, wet!", ["The", "man", "'s", "T-shirt", ",", "wet", "!"]),
        ("un café (2)", ["un", "café", "(", "2", ")"]),
        ("   ", []),
    ],
)
def test_tokenize(caption: str, words: list[str]) -> None:
    found = tokenize(caption)
    assert [word.text for word in found] == words
    assert all(caption[word.start : word.end] == word.text for word in found)


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0, 9), range(3)),  # whole words
        ((2, 5), range(1, 2)),
        ((3, 8), range(1, 3)),  # cuts through two words
        ((1, 2), range(0)),  # a space
    ],
)
def test_words_in(span: tuple[int, int], expected: range) -> None:
    assert words_in(tokenize("a red car"), span) == expected


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("Dogs", "dog"),
        ("puppies", "puppy"),
        ("dresses", "dress"),
        ("benches", "bench"),
        ("glass", "glass"),
        ("bus", "bus"),
        ("men", "man"),
        ("the", ""),
        (".", ""),
    ],
)
def test_content_key(word: str, key: str) -> None:
    assert content_key(word) == key


def test_stop_words_are_spacys() -> None:
    from spacy.lang.en.stop_words import STOP_WORDS

    assert stop_words() == STOP_WORDS


def test_neither_spacy_nor_torch_is_imported() -> None:
    modules = "caption_files captions coco find flickr30k images phrases published referit visual_genome"
    code = f"""
import importlib, sys
for name in {modules.split()}:
    importlib.import_module("groundcli.data." + name)
from groundcli.data.phrases import content_key
assert content_key("dogs") == "dog" and content_key("the") == ""
print({{"spacy", "torch", "h5py", "timm"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
