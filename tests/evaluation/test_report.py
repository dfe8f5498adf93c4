import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundcli.data.sample import Box, Caption, Phrase, Sample
from groundcli.errors import GroundcliError
from groundcli.evaluation.protocol import Protocol, scored_phrases
from groundcli.evaluation.report import Evaluation
from groundcli.grounding.answer import Answer, GroundedPhrase

SIZE = (100, 100)
LEFT, RIGHT = (0, 0, 50, 100), (50, 0, 50, 100)
TEXT = "a man, a dog, a day"
MAN = Phrase("a man", (0, 5), "people", (LEFT,))
DOG = Phrase("a dog", (7, 12), "animals", ((60, 60, 10, 10),))
DAY = Phrase("a day", (14, 19), "notvisual")
SAMPLE = Sample("a.jpg", Path("a.jpg"), (Caption(TEXT, (MAN, DOG, DAY)),))


def grounded(
    phrase: Phrase, point: tuple[float, float], boxes: tuple[Box, ...] = (), score: float = 0.5, level: int = 0
) -> GroundedPhrase:
    """Heat fills the left half of the image."""
    heat = np.array([[1, 0], [1, 0]], dtype=np.float32)
    return GroundedPhrase(phrase.text, phrase.span, point, boxes, (0.5,) * len(boxes), score, level, heat)


def summary(protocol: Protocol, *answers: GroundedPhrase, **settings: Any) -> dict[str, Any]:
    evaluation = Evaluation(protocol, **settings)
    evaluation.add(SAMPLE, [Answer(TEXT, SIZE, answers)])
    return evaluation.summary()


def test_every_phrase_with_a_box_counts() -> None:
    man, dog = grounded(MAN, (10, 10), (RIGHT, LEFT)), grounded(DOG, (10, 10), level=1)
    found = summary("default", man, dog, levels=("early", "late"))
    assert found["protocol"] == "default"
    assert (found["images"], found["phrases"], found["skipped"]) == (1, 2, {"no_box": 1})
    pointing = found["pointing"]
    assert pointing["accuracy"] == 0.5
    assert pointing["ci95"] == [0.5, 0.5]  # one image: nothing else can be drawn
    assert pointing["center"] == 0.5  # (50, 50) is on the man's edge
    assert pointing["random"] == pytest.approx((0.5 + 0.01) / 2)
    assert pointing["by_category"] == {
        "people": {"accuracy": 1, "center": 1, "phrases": 1},
        "animals": {"accuracy": 0, "center": 0, "phrases": 1},
    }
    assert found["attention_correctness"] == pytest.approx(0.5 * 0.875, abs=0.01)  # bilinear: 1/8 crosses the middle
    assert found["iou_accuracy"] == 0.5  # both halves enclose the whole image: IoU 0.5 with the left one
    assert found["box_recall"] == {"R@1": 0, "R@5": 0.5, "R@10": 0.5}
    assert found["levels"] == {"early": 0.5, "late": 0.5}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_authors_leave_out_small_boxes_and_what_is_not_visual() -> None:
    found = summary("authors", grounded(MAN, (10, 10)))
    assert (found["phrases"], found["skipped"]) == (1, {"notvisual": 1, "small_box": 1})
    assert found["pointing"]["accuracy"] == 1


@pytest.mark.parametrize(("protocol", "accuracy"), [("default", 1), ("authors", 0)])
def test_a_score_of_zero_is_a_miss_for_the_authors(protocol: Protocol, accuracy: float) -> None:
    answers = [grounded(MAN, (10, 10), (LEFT,), score=0)]
    if protocol == "default":
        answers.append(grounded(DOG, (65, 65), (DOG.boxes[0],), score=0))
    found = summary(protocol, *answers)
    assert found["pointing"]["accuracy"] == accuracy
    assert found["iou_accuracy"] == found["box_recall"]["R@1"] == accuracy
    assert found["pointing"]["center"] > 0  # baselines don't depend on the model


@pytest.mark.parametrize(("protocol", "share"), [("default", 0.875), ("authors", 1.75)])
def test_authors_count_overlaps_twice(protocol: Protocol, share: float) -> None:
    twice = Phrase(MAN.text, MAN.span, "people", (LEFT, LEFT))
    evaluation = Evaluation(protocol)
    evaluation.add(
        Sample("a.jpg", Path("a.jpg"), (Caption(TEXT, (twice,)),)), [Answer(TEXT, SIZE, (grounded(MAN, (0, 0)),))]
    )
    assert evaluation.summary()["attention_correctness"] == pytest.approx(share, abs=0.02)


def test_tolerance_is_named_beside_its_numbers() -> None:
    answers = grounded(MAN, (64, 10)), grounded(DOG, (10, 10))
    assert "tolerance" not in summary("default", *answers)["pointing"]
    pointing = summary("default", *answers, tolerance=15)["pointing"]
    assert (pointing["tolerance"], pointing["accuracy"], pointing["center"]) == (15, 0.5, 1)


def test_images_that_cannot_be_used_are_counted() -> None:
    evaluation = Evaluation()
    evaluation.skip(SAMPLE, "unreadable_image")
    with pytest.raises(GroundcliError, match="nothing to score under protocol default: 3 unreadable_image"):
        evaluation.summary()


def test_answers_must_be_about_the_scored_phrases() -> None:
    evaluation = Evaluation()
    with pytest.raises(ValueError, match=r"a\.jpg"):
        evaluation.add(SAMPLE, [Answer(TEXT, SIZE, (grounded(MAN, (0, 0)),))])
    with pytest.raises(ValueError, match="shorter"):
        evaluation.add(SAMPLE, [])


def test_intervals_are_over_images() -> None:
    evaluation = Evaluation()
    for image in range(40):
        phrases = scored_phrases(SAMPLE.captions[0], SIZE, "default")
        point = (10, 10) if image % 2 else (99, 0)
        evaluation.add(SAMPLE, [Answer(TEXT, SIZE, tuple(grounded(p, point) for p in phrases))])
    found = evaluation.summary()
    assert found["images"] == 40
    low, high = found["pointing"]["ci95"]
    assert low < found["pointing"]["accuracy"] == 0.25 < high
