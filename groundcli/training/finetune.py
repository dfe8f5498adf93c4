"""What finetuning adds to training: which parts of a model learn on, and what it has never seen."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

import torch

from groundcli.data.sample import Sample
from groundcli.data.words import content_key, tokenize
from groundcli.errors import GroundcliError
from groundcli.model.grounding_model import GroundingModel
from groundcli.weights.load import Loaded

Part = Literal["heads", "text", "top-levels"]
HELD_OUT, AT_LEAST = 0.1, 10  # share of the images, and images where a quarter gives them: fewer measure nothing


def choose_trained(model: GroundingModel, part: Part) -> None:
    """Freezes all but a part of what training learned.

    `heads` are all mappings, `text` those of words and sentences, `top-levels` the mappings of the later half of the
    CNN's levels, with those of the text where every level has a space of its own.
    """
    if part == "heads":
        return
    words, sentences, stacks = model.word_mapping.copies, model.sentence_mapping.copies, model.visual_mapping.stacks
    trained: list[torch.nn.Module] = [words, sentences, *([model.context] if model.context else [])]
    if part == "top-levels":
        first = len(stacks) // 2
        own = [words[first:], sentences[first:]] if len(words) > 1 else []
        trained = [stacks[first:], *own]
    model.requires_grad_(False)
    for module in trained:
        module.requires_grad_(True)


def hold_out(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Images to learn from, and a part kept aside to compare by. Raises GroundcliError where there are under four."""
    if len(samples) < 4:
        raise GroundcliError(
            f"{len(samples)} images with captions are too few: two have to be told apart in training, and two after it"
        )
    count = max(2, int(HELD_OUT * len(samples)), min(AT_LEAST, len(samples) // 4))
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist()
    aside = set(order[:count])
    return [s for i, s in enumerate(samples) if i not in aside], [samples[i] for i in sorted(aside)]


def unseen_words(samples: Sequence[Sample], known: Collection[str]) -> list[tuple[str, int]]:
    """Words in captions that a vocabulary lacks in every form, with how often they come, the most frequent first."""
    words = (content_key(word.text) for s in samples for caption in s.captions for word in tokenize(caption.text))
    return Counter(word for word in words if word and word not in known).most_common()


def vocabulary(loaded: Loaded) -> Collection[str]:
    """The words that a model has learned from, as its checkpoint says; of older ones, whole words of its word table."""
    if "vocabulary" in loaded.metadata:
        return set(loaded.metadata["vocabulary"])
    pieces = (piece for table in loaded.model.text.tables for piece in _pieces(table))
    return {content_key(piece) for piece in pieces if not piece.startswith("##")}


def _pieces(table: torch.nn.Module) -> Collection[str]:
    tokenizer = getattr(table, "tokenizer", None)  # an ELMo reads letters, and has no table
    return tokenizer.get_vocab() if tokenizer else ()
