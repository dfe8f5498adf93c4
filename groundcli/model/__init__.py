"""The paper's model in plain torch. Here is the one thing that its exports need too, without torch."""

from collections.abc import Callable, Sequence


def piece_cutter(pieces: Sequence[str]) -> Callable[[Sequence[str]], list[list[int]]]:
    """What cuts words into pieces: U words -> for each the numbers of its pieces, at least one.

    The pieces are a BERT-like model's, in the order of its table: continuations are marked with ##, all are matched in
    lower case, and [UNK] stands for what can't be cut.
    """
    from tokenizers import BertWordPieceTokenizer  # here, as few models in few commands cut words

    unknown = [pieces.index("[UNK]")]
    tokenizer = BertWordPieceTokenizer({piece: i for i, piece in enumerate(pieces)}, lowercase=True)

    def cut(words: Sequence[str]) -> list[list[int]]:
        texts = [word.encode(errors="replace").decode() for word in words]  # half of a pair of UTF-16 is no character
        return [found.ids or unknown for found in tokenizer.encode_batch(texts, add_special_tokens=False)]

    return cut
