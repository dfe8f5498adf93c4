import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundcli.answer import Answer, GroundedPhrase
from groundcli.data import Caption
from groundcli.errors import GroundcliError
from groundcli.evaluation.metrics import Predicted, Truth
from groundcli.evaluation.predictions import PredictionFile
from groundcli.output.coco import coco
from groundcli.output.phrases import json_lines
from groundcli.output.record import record_of
from tests.evaluation.fixtures import DOG, HEAT, MAN, SAMPLE, SIZE, TEXT

TRUTH = Truth.of(SAMPLE, SIZE, "default")  # a man, a dog


def read(path: Path, *objects: Any) -> PredictionFile:
    path.write_text("".join(json.dumps(one) + "\n" for one in objects))
    return PredictionFile(path)


def said(predictions: PredictionFile, truth: Truth = TRUTH) -> Predicted:
    (predictions_by_system,) = predictions([], [truth])
    (one,) = predictions_by_system.values()
    return one


@pytest.mark.parametrize(
    "named",
    [
        {"image": "photos/a.jpg", "caption": 0, "span": [0, 5]},
        {"image": "photos/a.jpg", "caption": TEXT, "span": [0, 5]},
        {"image": "photos/a.jpg", "caption": 0, "phrase": "a man"},
        {"image": "photos/a.jpg", "phrase": "A  Man"},
        {"file_name": "a.jpg", "phrase": "a man"},  # the file's name alone
        {"image_id": "a", "phrase": "a man"},
    ],
)
def test_ways_to_name_a_phrase(named: dict, tmp_path: Path) -> None:
    predictions = read(tmp_path / "p.jsonl", {**named, "point": [1, 2], "score": 0.3})
    found = said(predictions)
    assert found.points is not None
    assert found.points[0].tolist() == [1, 2]
    assert found.scores is not None
    assert found.scores.tolist() == [0.3, 0]
    assert np.isnan(found.points[1]).all()  # nothing is said of the dog
    assert found.boxes is None  # nor of boxes
    assert (predictions.missing, predictions.unused) == (1, 0)


@pytest.mark.parametrize(
    "named",
    [
        {"image": "photos/b.jpg", "phrase": "a man"},
        {"image": "photos/a.jpg", "caption": 1, "phrase": "a man"},
        {"image": "photos/a.jpg", "caption": 0, "span": [0, 4]},
        {"image": "photos/a.jpg", "phrase": "man"},
    ],
)
def test_another_phrase_is_not_taken_for_it(named: dict, tmp_path: Path) -> None:
    predictions = read(tmp_path / "p.jsonl", {**named, "point": [1, 2]})
    said(predictions)
    assert predictions.unused == 1
    with pytest.raises(
        GroundcliError, match=r"p\.jsonl: speaks of no phrase of these images: its first is '.*' of 'pho"
    ):
        _ = predictions.missing


@pytest.mark.parametrize(
    "said_as",
    [
        [{"boxes": [[0, 0, 2, 2], [4, 4, 2, 6]], "scores": [0.1, 0.9]}],
        [{"boxes": [{"bbox": [0, 0, 2, 2], "score": 0.1}, {"bbox": [4, 4, 2, 6], "score": 0.9}]}],
        [{"bbox": [0, 0, 2, 2], "score": 0.1}, {"bbox": [4, 4, 2, 6], "score": 0.9}],  # COCO results
    ],
)
def test_ways_to_say_boxes(said_as: list[dict], tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"file_name": "a.jpg", "phrase": "a man", **one} for one in said_as]))
    found = said(PredictionFile(path))
    assert found.boxes == [[(4, 4, 2, 6), (0, 0, 2, 2)], []]
    assert found.points is not None
    assert found.points[0].tolist() == [5, 7]  # the middle of the best box


def test_a_phrase_without_a_caption_is_said_of_all_captions(tmp_path: Path) -> None:
    twice = Truth.of(replace(SAMPLE, captions=(Caption(TEXT, (MAN,)), Caption(TEXT, (MAN,)))), SIZE, "default")
    line = {"image": "photos/a.jpg", "phrase": "a man", "point": [1, 2]}
    better = {**line, "caption": 1, "point": [3, 4]}
    points = said(read(tmp_path / "p.jsonl", line, better), twice).points
    assert points is not None
    assert points.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("name", ["phrases.jsonl", "annotations.json", "results.json"])
def test_what_annotate_writes_is_read(name: str, tmp_path: Path) -> None:
    grounded = [
        GroundedPhrase(p.text, p.span, SIZE, (11, 22), ((1, 2, 30, 40), (5, 5, 5, 5)), (0.5, 0.25), 0.75, 0, HEAT)
        for p in (MAN, DOG)
    ]
    record = record_of("a.jpg", [Answer(TEXT, SIZE, tuple(grounded))], SIZE)
    with coco(tmp_path) as write_coco, json_lines(tmp_path) as write_line:
        write_coco(record)
        write_line(record)
    predictions = PredictionFile(tmp_path / name)
    found = said(predictions)
    assert (predictions.missing, predictions.unused) == (0, 0)
    assert found.boxes == [[(1, 2, 30, 40), (5, 5, 5, 5)]] * 2
    assert found.points is not None
    points = [11, 22] if name != "results.json" else [16, 22]  # COCO results have no points
    assert found.points.tolist() == [points] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": "a.jpg", "phrase": "x", "point": [1]}', r"p: object 1: expected 2 finite numbers, not \[1\]"),
        ('{"image": "a.jpg", "phrase": "x", "bbox": [1, 2, 3, NaN]}', "object 1: expected 4 finite numbers"),
        ('[{"image": "a.jpg", "phrase": "x", "point": [1, 2]}, {"image": "a.jpg"}]', "object 2: names no phrase"),
        ('{"phrase": "x"}', "object 1: names no image"),
        ('{"image": "a.jpg", "phrase": "x", "boxes": [{"score": 1}]}', "object 1: has no 'bbox'"),
        ('{"image": "a.jpg", "phrase": "x", "boxes": [[1, 2, 3, 4]], "scores": []}', "object 1: "),
        ("[1]", "object 1: not an object"),
        ('{"image": 1, "phrase": "x"}\n{"image', "p:2: not JSON"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', "object 1: names no phrase"),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(GroundcliError, match=message) as error:
        PredictionFile(tmp_path / "p")
    assert "\n" not in str(error.value)


def test_an_empty_file_matches_nothing(tmp_path: Path) -> None:
    predictions = read(tmp_path / "p.json", [])
    said(predictions)
    with pytest.raises(GroundcliError, match="it is empty; what is asked for is like 'a man' of 'photos"):
        _ = predictions.missing


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(GroundcliError, match=r"--predictions .*nothing: can't be read"):
        PredictionFile(tmp_path / "nothing")
