from collections.abc import Callable

import pytest

from groundcli.output import label_by


@pytest.fixture(scope="module")
def head() -> Callable[[str], str]:
    return label_by("head")


def test_the_phrase_in_lower_case() -> None:
    assert label_by("phrase")("A big red Fire Truck ") == "a big red fire truck "


def test_a_single_label() -> None:
    label = label_by("single")
    assert {label("a dog"), label("two Cats"), label("")} == {"phrase"}


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("a big red fire truck with ladders", "truck"),
        ("Two Dogs", "dog"),  # as "two dogs"
        ("young ladies in dresses", "lady"),
        ("a man riding a horse", "man"),
        ("a woman's handbag", "handbag"),
        ("a t-shirt", "shirt"),
        ("a group of people", "group"),
        ("a dog and a cat", "dog"),
        ("A man rides a horse .", "man"),  # a whole caption
        ("parked cars", "car"),  # the head may be no noun
        ("what looks like a bird", "bird"),
        ("sitting", "sitting"),  # no noun: the last word
        ("Bright Red !", "red"),
        ("someone", "someone"),
        ("熊", "熊"),
        ("!?", "!?"),  # no word
        ("", ""),
    ],
)
def test_the_head_noun(head: Callable[[str], str], phrase: str, expected: str) -> None:
    assert head(phrase) == expected


def test_a_phrase_is_parsed_once(head: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = head("a wooden boat")

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr("spacy.language.Language.__call__", fail)
    assert head("a wooden boat") == head("A Wooden boat") == first == "boat"
    with pytest.raises(AssertionError, match="parsed again"):
        head("a wooden bridge")
