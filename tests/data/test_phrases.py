import pytest

from groundcli.data.phrases import How, PhraseFinder
from groundcli.data.sample import Caption, Phrase


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
