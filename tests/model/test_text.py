import pytest
import torch

from groundcli.model.elmo import Elmo
from groundcli.model.text import BiLstm, Characters, LayerMix, TextEncoders, WordPieces
from groundcli.recipe import ElmoConfig

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


def test_equal_captions_are_encoded_once() -> None:
    elmo = Elmo(TINY)
    encoders, seen = TextEncoders(elmo, [table()]), []
    elmo.lstm[0].register_forward_hook(lambda _, given, __: seen.append(given[1][0]))
    captions = [["a", "dog"], ["a", "red", "dog"], ["a", "dog"]]
    text = encoders(captions)
    assert seen == [2]
    assert text.index.tolist() == [[0, 1, 0], [2, 3, 4], [0, 1, 0]]
    assert text.mask.sum(1).tolist() == [2, 3, 2]
    for sentences, alone in zip(text.sentences, encoders(captions[:1]).sentences, strict=True):
        torch.testing.assert_close(sentences[0], alone[0])
        assert torch.equal(sentences[0], sentences[2])


class TestBiLstm:
    def test_words_are_doubled_beside_their_context(self) -> None:
        lstm = BiLstm([8, 2], 6)
        text = TextEncoders(None, [Characters(Elmo(TINY)), table()])([["a", "dog"], ["a", "red", "dog"]])
        context = lstm(text)
        assert lstm.word_widths == [layer.shape[1] for layer in context.words] == [16, 4, 12]
        assert lstm.sentence_widths == [layer.shape[1] for layer in context.sentences] == [12]
        assert context.tokens == ["a", "dog", "a", "red", "dog"]
        assert context.index.tolist() == [[0, 1, 0], [2, 3, 4]]
        dog = text.words[0][1]
        assert torch.equal(context.words[0][1], torch.cat([dog, dog]))
        assert not torch.allclose(context.words[2][1], context.words[2][4])  # the same word, in another context

    def test_a_sentence_is_both_ends(self) -> None:
        context = BiLstm([8], 6)(TextEncoders(None, [Characters(Elmo(TINY))])([["a", "red", "dog"]]))
        words, sentence = context.words[-1], context.sentences[0][0]
        torch.testing.assert_close(sentence, torch.cat([words[0, 6:], words[2, :6]]))

    def test_a_caption_does_not_depend_on_its_batch(self) -> None:
        encoders, lstm = TextEncoders(None, [Characters(Elmo(TINY))]), BiLstm([8], 6)
        alone = lstm(encoders([["a", "dog"]]))
        among = lstm(encoders([["two", "brown", "dogs", "run"], ["a", "dog"]]))
        torch.testing.assert_close(among.words[-1][4:], alone.words[-1])
        torch.testing.assert_close(among.sentences[0][1:], alone.sentences[0])
