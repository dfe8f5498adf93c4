import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, mannwhitneyu

from groundcli.data import Caption, Sample
from groundcli.errors import GroundcliError
from groundcli.evaluation import Protocol
from groundcli.evaluation.rows import Rows
from groundcli.evaluation.summary import (
    average_precision,
    calibration_summary,
    confidence,
    cross_validated,
    fit,
    interval,
    presence_summary,
    reliability,
    summarize,
)
from groundcli.heat import EVIDENCE, FEATURES, features, probability
from tests.evaluation.fixtures import DOG, LEFT, MAN, RIGHT, SAMPLE, TEXT, options, predicted, summary_of

COIN = pd.Series(np.repeat([0.0, 1.0], 200))
TRUE = [0.5, 1.0, -2.0]  # a calibration


def test_every_phrase_with_a_box_counts() -> None:
    said = predicted((10, 10), (10, 10), boxes=[[RIGHT, LEFT], []], levels=[0, 1])
    found = summary_of(said, levels=("early", "late"))
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
    assert [recall[key] for key in ("R@1", "R@5", "R@10", "most_boxes")] == [0, 0.5, 0.5, 2]
    assert found["levels"] == {"early": 0.5, "late": 0.5}
    assert found["levels_by_category"] == {"people": {"early": 1, "late": 0}, "animals": {"early": 0, "late": 1}}
    assert found["baselines"]["whole_image"]["box_recall"]["R@1"] == 0.5  # IoU 0.5 with the left half
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_mean_over_categories_weighs_them_alike() -> None:
    twice = replace(SAMPLE, captions=(Caption(TEXT, (MAN, MAN, MAN, DOG)),))
    found = summary_of(predicted(*[(10, 10)] * 4), sample=twice)
    assert found["pointing"]["accuracy"] == 0.75
    assert found["pointing"]["macro"] == 0.5


def test_merged_boxes_are_the_box_around_all_true_ones() -> None:
    halves = replace(SAMPLE, captions=(Caption(TEXT, (replace(MAN, boxes=(LEFT, RIGHT)),)),))
    found = summary_of(predicted((10, 10), boxes=[[(0, 0, 50, 40), (0, 0, 100, 100)]]), sample=halves)
    assert (found["box_recall"]["R@1"], found["box_recall_merged"]["R@1"]) == (0, 0)
    assert (found["box_recall"]["R@5"], found["box_recall_merged"]["R@5"]) == (1, 1)
    whole = summary_of(predicted((10, 10), boxes=[[(0, 0, 100, 90)]]), sample=halves)
    assert (whole["box_recall"]["R@1"], whole["box_recall_merged"]["R@1"]) == (0, 1)
    half = summary_of(predicted((10, 10), boxes=[[(0, 0, 45, 100)]]), sample=halves)
    assert (half["box_recall"]["R@1"], half["box_recall_merged"]["R@1"]) == (1, 0)


def test_authors_leave_out_small_boxes_and_what_is_not_visual() -> None:
    found = summary_of(predicted((10, 10)), protocol="authors")
    assert (found["phrases"], found["skipped"]) == (1, {"notvisual": 1, "small_box": 1})
    assert found["pointing"]["accuracy"] == 1


@pytest.mark.parametrize(("protocol", "accuracy"), [("default", 1), ("authors", 0)])
def test_a_score_of_zero_is_a_miss_for_the_authors(protocol: Protocol, accuracy: float) -> None:
    alone = replace(SAMPLE, captions=(Caption(TEXT, (MAN,)),))
    said = predicted((10, 10), boxes=[[LEFT]], scores=[0.0])
    found = summary_of(said, sample=alone, protocol=protocol)
    assert found["pointing"]["accuracy"] == accuracy
    assert found["iou_accuracy"] == found["box_recall"]["R@1"] == found["box_recall"]["R@10"] == accuracy
    assert bool(found["attention_correctness"]) == bool(accuracy)
    assert found["pointing"]["center"] == 1  # baselines don't depend on the model


@pytest.mark.parametrize(("protocol", "share"), [("default", 0.875), ("authors", 1.75)])
def test_authors_count_overlaps_twice(protocol: Protocol, share: float) -> None:
    twice = Sample("a.jpg", Path("a.jpg"), (Caption(TEXT, (replace(MAN, boxes=(LEFT, LEFT)),)),))
    found = summary_of(predicted((0, 0)), sample=twice, protocol=protocol)
    assert found["attention_correctness"] == pytest.approx(share, abs=0.02)


def test_tolerance_is_named_beside_its_numbers() -> None:
    said = predicted((64, 10), (10, 10))
    assert "tolerance" not in summary_of(said)["pointing"]
    pointing = summary_of(said, tolerance=15)["pointing"]
    assert (pointing["tolerance"], pointing["accuracy"], pointing["center"]) == (15, 0.5, 1)


def test_images_that_cannot_be_used_are_counted() -> None:
    rows = Rows(options())
    rows.skip(SAMPLE, "image_failed")
    with pytest.raises(GroundcliError, match="nothing to score under protocol default: 3 image_failed"):
        summarize(rows.table(), rows.skipped, rows.options)


def test_intervals_are_over_images() -> None:
    points = [(10, 10) if image % 2 else (99, 0) for image in range(40)]
    found = summary_of(*[predicted(point, point) for point in points])
    assert found["images"] == 40
    low, high = found["pointing"]["ci95"]
    assert low < found["pointing"]["accuracy"] == 0.25 < high


def test_paired_difference() -> None:
    """Ours is right where theirs is and besides: the interval leaves out the noise that they share."""
    ours, theirs = [], []
    for image in range(40):
        man = (10, 10) if image % 2 else (99, 0)
        theirs.append(predicted(man, (0, 0), boxes=[[LEFT], []]))
        ours.append(predicted(man, (65, 65) if image % 4 == 0 else (0, 0), boxes=[[], []]))
    found = summary_of(*ours, compared=theirs)
    assert found["compared"]["pointing"]["accuracy"] == 0.25
    difference = found["compared"]["difference"]
    assert difference["pointing"]["value"] == pytest.approx(0.125)
    low, high = difference["pointing"]["ci95"]
    assert 0 < low < 0.125 < high
    assert difference["box_recall R@1"] == {"value": -0.5, "ci95": [-0.5, -0.5]}
    assert difference["attention_correctness"]["ci95"] == [0, 0]


def test_what_a_system_does_not_say_is_not_measured() -> None:
    said = replace(predicted((10, 10), (65, 65)), boxes=None, heat=None, levels=None)
    found = summary_of(said)
    assert found["pointing"]["accuracy"] == 1
    assert found["attention_correctness"] is found["iou_accuracy"] is found["box_recall"] is None
    assert found["levels"] == {}
    silent = replace(said, points=None, boxes=[[LEFT], []], scores=np.array([np.nan, 0.5]))
    found = summary_of(silent)
    assert found["pointing"]["accuracy"] is None
    assert found["box_recall"]["R@1"] == 0.5
    assert "calibration" not in found


def test_phrases_without_a_category_are_in_no_numbers_by_category() -> None:
    bare = replace(SAMPLE, captions=(Caption(TEXT, (replace(MAN, category=""), DOG)),))
    found = summary_of(predicted((10, 10), (0, 0)), sample=bare, levels=("early",))
    assert (found["pointing"]["accuracy"], found["pointing"]["macro"]) == (0.5, 0)
    assert found["pointing"]["by_category"] == {"animals": {"accuracy": 0, "center": 0, "phrases": 1}}
    assert found["levels_by_category"] == {"animals": {"early": 1}}
    none = replace(SAMPLE, captions=(Caption(TEXT, (replace(MAN, category=""),)),))
    found = summary_of(predicted((10, 10)), sample=none, levels=("early",))
    assert (found["pointing"]["macro"], found["pointing"]["by_category"]) == (None, {})
    assert (found["levels"], found["levels_by_category"]) == ({"early": 1}, {})


def test_interval_of_a_coin() -> None:
    low, high = interval(COIN, pd.Series(np.arange(400)))
    assert low == pytest.approx(0.5 - 1.96 * np.sqrt(0.25 / 400), abs=0.01)  # the normal approximation
    assert high == pytest.approx(0.5 + 1.96 * np.sqrt(0.25 / 400), abs=0.01)


def test_phrases_of_an_image_stand_together() -> None:
    one_each, ten_each = (interval(COIN, pd.Series(np.arange(400) // phrases)) for phrases in (1, 10))
    assert ten_each[1] - ten_each[0] > 2 * (one_each[1] - one_each[0])  # sqrt(10) times as wide


def test_images_weigh_as_much_as_they_have_phrases() -> None:
    hits, images = pd.Series([1.0] * 9 + [0.0]), pd.Series([0] * 9 + [1])
    assert interval(hits, images) == [0, 1]
    assert hits.mean() == 0.9


def test_intervals_are_those_of_a_bootstrap() -> None:
    draw = np.random.default_rng(1)
    hits, images = pd.Series(draw.random(300)), pd.Series(draw.integers(60, size=300))
    by_image = hits.groupby(images, sort=False).agg(["sum", "size"]).to_numpy(float).T
    wanted = bootstrap(
        by_image, lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True, method="percentile", n_resamples=2000, rng=0,
    ).confidence_interval  # fmt: skip
    assert interval(hits, images) == pytest.approx([wanted.low, wanted.high], abs=1e-12)


def test_all_hit() -> None:
    assert interval(pd.Series([1.0] * 5), pd.Series([0, 0, 1, 1, 1])) == [1, 1]


def test_the_only_image() -> None:
    assert interval(pd.Series([1.0, 0.0]), pd.Series([0, 0])) == [0.5, 0.5]


def drawn(count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Features, and hits as likely as the calibration `TRUE` says."""
    draw = np.random.default_rng(0)
    found = draw.normal(size=(count, 2))
    return found, (draw.random(count) < probability(found, TRUE)).astype(float)


def test_the_calibration_is_found_again() -> None:
    assert fit(*drawn()) == pytest.approx(TRUE, abs=0.1)


def test_what_is_right_always_stays_finite() -> None:
    found = np.array([[1.0, 1.0], [2.0, 0.0], [-np.inf, 0.0]])
    calibration = fit(found, np.array([1.0, 1.0, 0.0]))
    assert np.isfinite(calibration).all()
    assert probability(found, calibration)[2] == 0  # no heat, nothing found


def test_reliability() -> None:
    scores = np.array([0.05, 0.05, 0.95, 1.0])
    found = reliability(scores, np.array([0, 0, 1, 0]))
    assert [row["phrases"] for row in found["bins"]] == [2, 2]
    assert found["bins"][1]["score"] == pytest.approx(0.975)
    assert found["ece"] == pytest.approx(0.5 * 0.05 + 0.5 * 0.475)


def test_calibration_lowers_the_error_of_images_that_it_has_not_seen() -> None:
    found, hits = drawn(4000)
    images = np.repeat(np.arange(400), 10)
    rows = pd.DataFrame(found, columns=[*FEATURES]).assign(hit=hits, score=0.99, image=pd.Categorical(images))
    rows = rows.assign(**dict.fromkeys(EVIDENCE, np.nan))
    summary = calibration_summary(rows)
    assert summary["cross_validated"]["ece"] < 0.05 < summary["score"]["ece"]
    assert cross_validated(found[:20], hits[:20], images[:20]) is None  # too few images
    assert confidence(rows).to_numpy() == pytest.approx(probability(found, TRUE), abs=0.05)
    unknown = rows.assign(**dict.fromkeys(FEATURES, np.nan))
    assert calibration_summary(unknown).keys() == {"score"}
    assert (confidence(unknown) == 0.99).all()


def test_heat_in_one_place_is_told_from_heat_everywhere() -> None:
    sharp, flat, none = np.zeros((16, 16)), np.full((16, 16), 0.5), np.zeros((16, 16))
    sharp[0, 15] = 0.5
    found = features(np.stack([sharp, flat, none]))
    assert found[0] == pytest.approx([np.log(0.5), 1])
    assert found[1] == pytest.approx([np.log(0.5), 9 / 256])  # 3 x 3 cells at a corner
    assert found[2].tolist() == [-np.inf, 0]
    assert probability(found, [0, 1, 1])[2] == 0


# --- Presence


def scored(scores: list[float], images: list[int], hits: list[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"score": scores, "image": pd.Categorical(images), "hit": hits or [0.0] * len(scores)})


def test_the_area_is_the_share_of_pairs_in_their_order() -> None:
    present, absent = scored([0.9, 0.6, 0.3], [0, 0, 1], [1, 1, 0]), scored([0.6, 0.1], [0, 1])
    found = presence_summary(present, absent)
    # Of six pairs 0.9 wins two, 0.6 one and a half, 0.3 one.
    assert found["auroc"] == pytest.approx(4.5 / 6)
    assert (found["absent"], found["present_above_half"], found["absent_above_half"]) == (2, 2 / 3, 0.5)
    low, high = found["ci95"]
    assert low <= found["auroc"] <= high
    together = reliability(np.array([0.9, 0.6, 0.3, 0.6, 0.1]), np.array([1, 1, 0, 0, 0]))
    assert found["calibration"] == together


def test_the_area_is_that_of_a_mann_whitney_test() -> None:
    draw = np.random.default_rng(0)
    present, absent = (scored([*draw.normal(m, 1, 300)], [*draw.integers(0, 40, 300)]) for m in (1, 0))
    expected = mannwhitneyu(present["score"], absent["score"]).statistic / 300**2
    found = presence_summary(present, absent)
    assert found["auroc"] == pytest.approx(expected)
    assert found["ci95"][0] < expected < found["ci95"][1]
    assert "calibration" not in found  # no probabilities


def test_average_precision_counts_boxes_of_what_is_not_there() -> None:
    rows = pd.DataFrame(
        {
            "group": ["evaluated"] * 2,
            "image": ["a.jpg", "b.jpg"],
            "phrase": ["dog", "cat"],
            "true_boxes": ["[[0, 0, 10, 10]]", "[[5, 5, 20, 20]]"],
        }
    )
    right = [(0, "dog", (0.0, 0.0, 10.0, 10.0), 0.9), (1, "cat", (5.0, 5.0, 20.0, 20.0), 0.8)]
    assert average_precision(rows, right) == pytest.approx({"AP": 1, "AP50": 1})
    invented = [*right, (1, "dog", (0.0, 0.0, 10.0, 10.0), 0.95)]  # surer than the dog that is there
    assert average_precision(rows, invented)["AP50"] == pytest.approx(0.75)
    assert average_precision(rows, [(0, "dog", (2.0, 0.0, 10.0, 10.0), 0.9)])["AP50"] == pytest.approx(0.5)
