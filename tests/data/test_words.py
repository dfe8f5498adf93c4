import subprocess
import sys

import pytest

from groundcli.data.words import content_key, stop_words, tokenize, words_in


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
    modules = "caption_files captions coco find flickr30k images phrases published referit sample visual_genome words"
    code = f"""
import importlib, sys
for name in {modules.split()}:
    importlib.import_module("groundcli.data." + name)
from groundcli.data.words import content_key
assert content_key("dogs") == "dog" and content_key("the") == ""
print({{"spacy", "torch", "h5py", "timm"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
