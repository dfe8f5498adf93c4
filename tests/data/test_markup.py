import pytest

from groundcli.data.markup import parse


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
