import json
from pathlib import Path

import pytest

from groundcli.data.coco_names import WORDS, named_category


@pytest.mark.parametrize(
    ("phrase", "category"),
    [
        ("A man", "person"),
        ("two young women", "person"),
        ("a group of people", "person"),
        ("several children", "person"),
        ("a dog", "dog"),
        ("Dogs", "dog"),
        ("a hot dog", "hot dog"),  # two words go before one
        ("a teddy bear", "teddy bear"),
        ("a brown bear", "bear"),
        ("dog food", ""),
        ("a picture of a cat", "cat"),
        ("city buses", "bus"),
        ("two knives", "knife"),
        ("red skis", "skis"),
        ("benches", "bench"),
        ("wine glasses", "wine glass"),
        ("the sunglasses", ""),
        ("stop signs", "stop sign"),
        ("a sign", ""),
        ("a parked motorbike", "motorcycle"),
        ("scissors", "scissors"),
        ("the", ""),
        ("", ""),
    ],
)
def test_the_last_words_decide(phrase: str, category: str) -> None:
    assert named_category(phrase) == category


def test_every_name_names_itself() -> None:
    assert len(WORDS) == 80
    assert {name: named_category(f"the {name}") for name in WORDS} == {name: name for name in WORDS}


def test_no_word_names_two_categories() -> None:
    words = [word for name, synonyms in WORDS.items() for word in [name, *filter(None, synonyms.split(", "))]]
    assert len(words) == len(set(words))


def test_names_are_those_of_the_data_set(real_data: Path) -> None:
    content = json.loads((real_data / "coco/annotations/instances_val2017.json").read_text())
    assert [category["name"] for category in content["categories"]] == list(WORDS)
