import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from groundcli.evaluation.collected import Collected
from groundcli.evaluation.protocol import Protocol, Settings
from groundcli.evaluation.run import COMPARED
from groundcli.evaluation.truth import truth

from groundcli.data.sample import Caption, Sample
from groundcli.errors import GroundcliError
from groundcli.evaluation.summary import summarize
from groundcli.evaluation.systems import OWN
from tests.evaluation.fixtures import DOG, LEFT, MAN, RIGHT, SAMPLE, SIZE, TEXT, collect, predicted


def test_every_phrase_with_a_box_counts() -> None:
    own = predicted((10, 10), (10, 10), boxes=[[RIGHT, LEFT], []], levels=[0, 1])
    found = summarize(collect(Settings(), own), levels=("early", "late"))
    assert (found["protocol"], found["encode"]) == ("default", "caption")
    assert (found["images"], found["phrases"], found["skipped"]) == (1, 2, {"no_box": 1})
    pointing = found["pointing"]
    assert pointing["accuracy"] == pointing["macro"] == 0.5
    assert pointing["ci95"] == [0.5, 0.5]  # one image: nothing else can be drawn
    assert pointing["center"] == 0.5  # (50, 50) is on the man's edge
    assert pointing["random"] == pytest.approx((0.5 + 0.01) / 2)
    assert pointing["by_category"] == {
        "people": {"accuracy": 1, "center": 1, "phrases": 1},
        "animals": {"accuracy": 0, "center": 0, "phrases": 1},
    }
    assert found["attention_correctness"] == pytest.approx(0.5 * 0.875, abs=0.01)  # bilinear: 1/8 crosses the middle
    assert found["iou_accuracy"] == 0.5  # both halves enclose the whole image: IoU 0.5 with the left one
    recall = found["box_recall"]
    assert [recall[key] for key in ("R@1", "R@5", "R@10", "upper_bound")] == [0, 0.5, 0.5, 0.5]
    assert found["levels"] == {"early": 0.5, "late": 0.5}
    assert found["levels_by_category"] == {"people": {"early": 1, "late": 0}, "animals": {"early": 0, "late": 1}}
    assert found["baselines"]["whole_image"]["box_recall"]["R@1"] == 0.5  # IoU 0.5 with the left half
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_mean_over_categories_weighs_them_alike() -> None:
    twice = replace(SAMPLE, captions=(Caption(TEXT, (MAN, MAN, MAN, DOG)),))
    found = summarize(collect(Settings(), predicted(*[(10, 10)] * 4), twice))
    assert found["pointing"]["accuracy"] == 0.75
    assert found["pointing"]["macro"] == 0.5


def test_merged_boxes_are_the_box_around_all_true_ones() -> None:
    halves = replace(SAMPLE, captions=(Caption(TEXT, (replace(MAN, boxes=(LEFT, RIGHT)),)),))
    found = summarize(collect(Settings(), predicted((10, 10), boxes=[[(0, 0, 50, 40), (0, 0, 100, 100)]]), halves))
    assert (found["box_recall"]["R@1"], found["box_recall_merged"]["R@1"]) == (0, 0)
    assert (found["box_recall"]["R@5"], found["box_recall_merged"]["R@5"]) == (1, 1)
    whole = summarize(collect(Settings(), predicted((10, 10), boxes=[[(0, 0, 100, 90)]]), halves))
    assert (whole["box_recall"]["R@1"], whole["box_recall_merged"]["R@1"]) == (0, 1)
    half = summarize(collect(Settings(), predicted((10, 10), boxes=[[(0, 0, 45, 100)]]), halves))
    assert (half["box_recall"]["R@1"], half["box_recall_merged"]["R@1"]) == (1, 0)


def test_authors_leave_out_small_boxes_and_what_is_not_visual() -> None:
    found = summarize(collect(Settings("authors"), predicted((10, 10))))
    assert (found["phrases"], found["skipped"]) == (1, {"notvisual": 1, "small_box": 1})
    assert found["pointing"]["accuracy"] == 1


@pytest.mark.parametrize(("protocol", "accuracy"), [("default", 1), ("authors", 0)])
def test_a_score_of_zero_is_a_miss_for_the_authors(protocol: Protocol, accuracy: float) -> None:
    alone = replace(SAMPLE, captions=(Caption(TEXT, (MAN,)),))
    found = summarize(collect(Settings(protocol), predicted((10, 10), boxes=[[LEFT]], scores=[0.0]), alone))
    assert found["pointing"]["accuracy"] == accuracy
    assert found["iou_accuracy"] == found["box_recall"]["R@1"] == found["box_recall"]["upper_bound"] == accuracy
    assert bool(found["attention_correctness"]) == bool(accuracy)
    assert found["pointing"]["center"] == 1  # baselines don't depend on the model


@pytest.mark.parametrize(("protocol", "share"), [("default", 0.875), ("authors", 1.75)])
def test_authors_count_overlaps_twice(protocol: Protocol, share: float) -> None:
    twice = Sample("a.jpg", Path("a.jpg"), (Caption(TEXT, (replace(MAN, boxes=(LEFT, LEFT)),)),))
    found = summarize(collect(Settings(protocol), predicted((0, 0)), twice))
    assert found["attention_correctness"] == pytest.approx(share, abs=0.02)


def test_tolerance_is_named_beside_its_numbers() -> None:
    own = predicted((64, 10), (10, 10))
    assert "tolerance" not in summarize(collect(Settings(), own))["pointing"]
    pointing = summarize(collect(Settings(tolerance=15), own))["pointing"]
    assert (pointing["tolerance"], pointing["accuracy"], pointing["center"]) == (15, 0.5, 1)


def test_images_that_cannot_be_used_are_counted() -> None:
    collected = Collected(Settings())
    collected.skip(SAMPLE, "image_failed")
    with pytest.raises(GroundcliError, match="nothing to score under protocol default: 3 image_failed"):
        summarize(collected)


def test_intervals_are_over_images() -> None:
    collected = Collected(Settings())
    for image in range(40):
        point = (10, 10) if image % 2 else (99, 0)
        collected.add(truth(SAMPLE, SIZE, "default"), {OWN: predicted(point, point)})
    found = summarize(collected)
    assert found["images"] == 40
    low, high = found["pointing"]["ci95"]
    assert low < found["pointing"]["accuracy"] == 0.25 < high


def test_paired_difference() -> None:
    """Ours is right where theirs is and besides: the interval leaves out the noise that they share."""
    collected = Collected(Settings())
    for image in range(40):
        theirs = predicted((10, 10) if image % 2 else (99, 0), (0, 0), boxes=[[LEFT], []])
        ours = predicted((10, 10) if image % 2 else (99, 0), (65, 65) if image % 4 == 0 else (0, 0), boxes=[[], []])
        collected.add(truth(SAMPLE, SIZE, "default"), {OWN: ours, COMPARED: theirs})
    found = summarize(collected)
    assert found["compared"]["pointing"]["accuracy"] == 0.25
    difference = found["compared"]["difference"]
    assert difference["pointing"]["value"] == pytest.approx(0.125)
    low, high = difference["pointing"]["ci95"]
    assert 0 < low < 0.125 < high
    assert difference["box_recall R@1"] == {"value": -0.5, "ci95": [-0.5, -0.5]}
    assert difference["attention_correctness"]["ci95"] == [0, 0]


def test_what_a_system_does_not_say_is_not_measured() -> None:
    own = replace(predicted((10, 10), (65, 65)), boxes=None, heat=None, levels=None)
    found = summarize(collect(Settings(), own))
    assert found["pointing"]["accuracy"] == 1
    assert found["attention_correctness"] is found["iou_accuracy"] is found["box_recall"] is None
    assert found["levels"] == {}
    silent = replace(own, points=None, boxes=[[LEFT], []], scores=np.array([np.nan, 0.5]))
    found = summarize(collect(Settings(), silent))
    assert found["pointing"]["accuracy"] is None
    assert found["box_recall"]["R@1"] == 0.5
    assert "calibration" not in found
