"""The paper's ablations that need no training: other ways from the same levels and words to a heat map."""

import copy
from dataclasses import replace
from typing import Any

from groundcli.grounder import Grounder

SENTENCE, ALONE = "sentence of the caption", "phrase as a sentence"


def variant(grounder: Grounder, **changes: Any) -> Grounder:
    """The same weights, on the same device, with another `ModelConfig`."""
    other = copy.copy(grounder)
    other.model = copy.copy(grounder.model)
    other.model.config = replace(grounder.model.config, **changes)
    return other


def fusions(grounder: Grounder) -> dict[str, Grounder]:
    """By names: each level alone, the level that fits a word best (the paper's), and all levels averaged alike."""
    levels = grounder.model.config.visual.levels
    single = {
        f"{name} alone": variant(grounder, fusion="average", level_weights=tuple(float(own == name) for own in levels))
        for name in levels
    }
    both = {
        "best level (the paper's)": variant(grounder, fusion="best"),
        "levels averaged": variant(grounder, fusion="average", level_weights=()),
    }
    return single | both
