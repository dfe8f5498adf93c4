import pytest
import torch

from groundcli.model.elmo import Elmo, ElmoConfig
from groundcli.model.text import LayerMix, TextEncoders, WordPieces

PIECES = ["[PAD]", "[UNK]", "a", "red", "dog", "sk", "##ate", "[CLS]", "[SEP]", "[MASK]"]
TINY = ElmoConfig(filters=((1, 4),), character_dim=4, highways=1, activation="relu", hidden=16, projection=8)


def table() -> WordPieces:
    return WordPieces(torch.arange(20, dtype=torch.float).view(10, 2).half(), PIECES)


def test_a_word_is_the_mean_of_its_pieces() -> None:
    vectors = table()(["Dog", "skate", "zebra"])
    assert vectors.tolist() == [[8, 9], [11, 12], [2, 3]]  # lower-cased, two pieces, unknown


def test_words_out_of_context_are_kept_once() -> None:
    text = TextEncoders(None, [table()])([["a", "dog"], ["a", "red", "dog"]])
    assert text.tokens == ["a", "dog", "red"]
    assert text.index.tolist() == [[0, 1, 0], [0, 2, 1]]
    assert text.mask.tolist() == [[True, True, False], [True, True, True]]
    assert text.sentences[0].tolist() == [[6, 7], [6, 7]]


def test_words_in_context_are_their_own() -> None:
    text = TextEncoders(Elmo(TINY), [table()])([["a", "dog"], ["a", "red", "dog"]])
    assert text.tokens == ["a", "dog", "a", "red", "dog"]
    assert text.index[text.mask].tolist() == [0, 1, 2, 3, 4]
    assert [layer.shape for layer in text.words] == [(5, 16), (5, 16), (5, 16), (5, 2)]
    assert [layer.shape for layer in text.sentences] == [(2, 16), (2, 16), (2, 2)]
    assert text.words[-1][1].tolist() == text.words[-1][4].tolist() == [8, 9]


def test_encoders_are_frozen() -> None:
    encoders = TextEncoders(Elmo(TINY), [table()]).train()
    assert not encoders.training
    assert not any(p.requires_grad for p in encoders.parameters())


@pytest.mark.parametrize(("softmax", "expected"), [(True, 2.0), (False, 2.0)])
def test_a_mix_begins_as_the_mean(softmax: bool, expected: float) -> None:
    mix = LayerMix([3, 3], 3, softmax)
    assert mix([torch.ones(3), 3 * torch.ones(3)]).tolist() == [expected] * 3
