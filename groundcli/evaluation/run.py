"""A grounder over a data set."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from groundcli.data.images import decode
from groundcli.data.sample import Sample
from groundcli.errors import BadInput
from groundcli.evaluation.protocol import scored_phrases
from groundcli.evaluation.report import Evaluation
from groundcli.grounding.grounder import Grounder


def evaluate_samples(
    grounder: Grounder, samples: Iterable[Sample], protocol: Literal["default", "authors"], tolerance: float = 0
) -> dict[str, Any]:
    """All numbers of `Evaluation.summary` for a grounder on samples with boxes; whole captions are encoded.

    An image that can't be decoded is counted under the skipped reason `image_failed`.

    Raises:
        GroundcliError: no phrase could be scored.
    """
    evaluation = Evaluation(protocol, grounder.model.config.visual.levels, tolerance)
    for sample in samples:
        try:
            image = grounder.encode(decode(sample.image))
        except BadInput:
            evaluation.skip(sample, "image_failed")
            continue
        captions = [replace(c, phrases=scored_phrases(c, image.size, protocol)) for c in sample.captions]
        evaluation.add(sample, grounder.ground_captions(image, captions))
    return evaluation.summary()
