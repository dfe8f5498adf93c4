import base64
import json
import subprocess
import sys

import numpy as np
import pytest

from groundcli.answer import Answer, GroundedPhrase
from groundcli.data.sample import Box
from groundcli.output.record import hot_region, image_record

SIZE = (60, 40)  # width, height


def heat_at(row: int, column: int, side: int = 4) -> np.ndarray:
    heat = np.zeros((side, side), dtype=np.float32)
    heat[row, column] = 0.7
    return heat


COLD = np.zeros((4, 4), dtype=np.float32)


def phrase(boxes: tuple[Box, ...] = (), heat: np.ndarray | None = None) -> GroundedPhrase:
    scores = tuple(0.9 - 0.2 * i for i in range(len(boxes)))
    heat = heat_at(0, 3) if heat is None else heat
    return GroundedPhrase("A dog", (0, 5), (52.254, 5.0), boxes, scores, 0.61803398875, 2, heat)


def test_a_record_is_plain_json() -> None:
    answer = Answer("A dog runs", SIZE, (phrase(((40.123, 2, 15, 12), (0, 0, 10, 10))),))
    record = image_record("sub/a b.jpg", SIZE, [answer, Answer("well", SIZE, ())])
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    (said,) = record["captions"][0].pop("phrases")
    assert record == {
        "file_name": "sub/a b.jpg",
        "width": 60,
        "height": 40,
        "captions": [{"caption": "A dog runs"}, {"caption": "well", "phrases": []}],
    }
    heat, rle = said.pop("heat"), said.pop("segmentation")
    assert rle["size"] == [40, 60]
    assert heat["side"] == 4
    assert list(base64.b64decode(heat["data"])) == [0, 0, 0, 255] + [0] * 12
    assert 50 < said.pop("area") < 300
    assert said == {
        "bbox": [40.12, 2, 15, 12],
        "iscrowd": 0,
        "keypoints": [52.25, 5, 2],
        "num_keypoints": 1,
        "score": 0.618034,
        "phrase": "A dog",
        "span": [0, 5],
        "level": 2,
        "boxes": [{"bbox": [40.12, 2, 15, 12], "score": 0.9}, {"bbox": [0, 0, 10, 10], "score": 0.7}],
    }


def test_numbers_of_any_type_are_written() -> None:
    numbers = GroundedPhrase(
        "a dog",
        (np.int64(0), np.int64(5)),
        (np.float32(3), np.float32(4)),
        ((np.float32(1), np.int64(2), 3, 4),),
        (np.float32(0.5),),
        np.float32(0.25),
        np.int64(1),
        heat_at(0, 0).astype(np.float16),
    )
    record = image_record("a.jpg", SIZE, [Answer("a dog", SIZE, (numbers,))])
    assert json.loads(json.dumps(record)) == record


def test_an_image_without_captions() -> None:
    assert image_record("a.jpg", (7, 9), []) == {"file_name": "a.jpg", "width": 7, "height": 9, "captions": []}


@pytest.mark.parametrize(
    ("heat", "box"),
    [
        (heat_at(3, 0), [52, 5, 1, 1]),  # hot elsewhere: the point's own pixel
        (COLD, [52, 5, 1, 1]),  # no heat at all
    ],
)
def test_box_of_one_pixel_where_nothing_is_hot(heat: np.ndarray, box: list[float]) -> None:
    record = image_record("a.jpg", SIZE, [Answer("A dog", SIZE, (phrase((), heat),))])
    (said,) = record["captions"][0]["phrases"]
    assert said["bbox"] == box
    assert said["boxes"] == []


def test_box_of_the_hot_region_around_the_point() -> None:
    record = image_record("a.jpg", SIZE, [Answer("A dog", SIZE, (phrase(),))])
    (said,) = record["captions"][0]["phrases"]
    x, y, width, height = said["bbox"]
    assert x <= 52 < x + width <= 60
    assert y <= 5 < y + height <= 40
    assert width > 5
    assert said["boxes"] == []


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (640, 480)])
def test_hot_region_covers_the_image(size: tuple[int, int]) -> None:
    assert hot_region(np.ones((9, 9), dtype=np.float32), size).shape == size[::-1]
    assert hot_region(np.ones((9, 9), dtype=np.float32), size).all()
    assert not hot_region(np.zeros((9, 9), dtype=np.float32), size).any()


def test_torch_is_not_needed() -> None:
    asked = "import sys, groundcli.output.record, groundcli.output.formats; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", asked], text=True).strip() == "False"
