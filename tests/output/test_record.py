import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from groundcli.answer import Answer, GroundedPhrase
from groundcli.data import Box
from groundcli.heat import mask
from groundcli.output.record import quantised, record_of, write_heatmaps

SIZE = (60, 40)  # width, height


def heat_at(row: int, column: int, side: int = 4) -> np.ndarray:
    heat = np.zeros((side, side), dtype=np.float32)
    heat[row, column] = 0.7
    return heat


COLD = np.zeros((4, 4), dtype=np.float32)


def phrase(boxes: tuple[Box, ...] = (), heat: np.ndarray | None = None) -> GroundedPhrase:
    scores = tuple(0.9 - 0.2 * i for i in range(len(boxes)))
    heat = heat_at(0, 3) if heat is None else heat
    return GroundedPhrase("A dog", (0, 5), SIZE, (52.254, 5.0), boxes, scores, 0.61803398875, 2, heat)


def test_a_record_is_plain_json() -> None:
    answer = Answer("A dog runs", SIZE, (phrase(((40.123, 2, 15, 12), (0, 0, 10, 10))),))
    record = record_of("sub/a b.jpg", [answer, Answer("well", SIZE, ())], SIZE)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    (said,) = record["captions"][0].pop("phrases")
    assert record == {
        "file_name": "sub/a b.jpg",
        "width": 60,
        "height": 40,
        "captions": [{"caption": "A dog runs", "not_found": []}, {"caption": "well", "phrases": [], "not_found": []}],
    }
    heat, rle = said.pop("heat"), said.pop("segmentation")
    assert rle["size"] == [40, 60]
    assert heat["side"] == 4
    assert list(base64.b64decode(heat["data"])) == [0, 0, 0, 255] + [0] * 12
    hot = answer.phrases[0].mask
    assert np.array_equal(coco_mask.decode(rle), hot)
    assert said.pop("area") == hot.sum() > 0
    assert said == {
        "bbox": [40, 2, 15, 12],
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
        SIZE,
        (np.float32(3), np.float32(4)),
        ((np.float32(1), np.int64(2), 3, 4),),
        (np.float32(0.5),),
        np.float32(0.25),
        np.int64(1),
        heat_at(0, 0).astype(np.float16),
    )
    record = record_of("a.jpg", [Answer("a dog", SIZE, (numbers,))], SIZE)
    assert json.loads(json.dumps(record)) == record
    (said,) = record["captions"][0]["phrases"]
    assert (said["keypoints"], said["span"], said["level"], said["score"]) == ([3, 4, 2], [0, 5], 1, 0.25)
    assert said["boxes"] == [{"bbox": [1, 2, 3, 4], "score": 0.5}]


def test_an_image_without_captions() -> None:
    assert record_of("a.jpg", [], (7, 9)) == {"file_name": "a.jpg", "width": 7, "height": 9, "captions": []}


def test_box_of_the_hot_region_around_the_point() -> None:
    two = heat_at(0, 3) + heat_at(3, 0)  # the point is in the upper right one
    record = record_of("a.jpg", [Answer("A dog", SIZE, (phrase((), two),))], SIZE)
    (said,) = record["captions"][0]["phrases"]
    rows, columns = np.nonzero(mask(heat_at(0, 3), SIZE, None))
    left, top = columns.min(), rows.min()
    assert left <= 52 < columns.max()
    assert said["bbox"] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
    assert said["boxes"] == []


def test_heat_in_bytes() -> None:
    assert quantised(np.array([[0, 0.25], [0.5, 0.125]], dtype=np.float32)) == {"side": 2, "data": "AID/QA=="}
    assert quantised(np.zeros((1, 1), dtype=np.float32)) == {"side": 1, "data": "AA=="}


# --- Heat maps in files


def warm(text: str, start: int, heat: np.ndarray) -> GroundedPhrase:
    return GroundedPhrase(text, (start, start + len(text)), SIZE, (0.0, 0.0), (), (), 0.5, 0, heat)


def test_heat_maps_come_back(tmp_path: Path) -> None:
    heat = np.random.default_rng(0).random((3, 18, 18)).astype(np.float32)
    one = Answer("a dog, ein Bär 😀", SIZE, (warm("a dog", 0, heat[0]), warm("ein Bär 😀", 7, heat[1])))
    two = Answer("well", SIZE, ())
    three = Answer('a\n"cat"', SIZE, (warm('a\n"cat"', 0, heat[2]),))
    path = tmp_path / "a b #1.jpg.npz"
    write_heatmaps(path, [one, two, three])
    assert [file.name for file in tmp_path.iterdir()] == ["a b #1.jpg.npz"]

    with np.load(path, allow_pickle=False) as found:
        assert sorted(found.files) == ["caption", "heat", "phrase", "span"]
        assert found["heat"].dtype == np.float16
        assert np.abs(found["heat"] - heat).max() < 0.0005
        assert found["phrase"].tolist() == ["a dog", "ein Bär 😀", 'a\n"cat"']
        assert found["span"].tolist() == [[0, 5], [7, 16], [0, 7]]
        assert found["caption"].tolist() == [0, 0, 2]


@pytest.mark.parametrize("answers", [[], [Answer("well", SIZE, ())]])
def test_heat_maps_without_phrases(tmp_path: Path, answers: list[Answer]) -> None:
    write_heatmaps(tmp_path / "a.npz", answers)
    with np.load(tmp_path / "a.npz") as found:
        shapes = {name: found[name].shape for name in found.files}
    assert shapes == {"heat": (0, 0, 0), "phrase": (0,), "span": (0, 2), "caption": (0,)}


def test_no_heat_stays_none(tmp_path: Path) -> None:
    write_heatmaps(tmp_path / "a.npz", [Answer("a dog", SIZE, (warm("a dog", 0, np.zeros((4, 4), np.float32)),))])
    assert not np.load(tmp_path / "a.npz")["heat"].any()


def test_equal_heat_maps_give_equal_bytes(tmp_path: Path) -> None:
    answers = [Answer("a dog", SIZE, (warm("a dog", 0, np.eye(4, dtype=np.float32)),))]
    for name in ("a.npz", "b.npz"):
        write_heatmaps(tmp_path / name, answers)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    (tmp_path / "a.npz").write_text("older")
    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        write_heatmaps(tmp_path / "a.npz", [])
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.npz", "older")]


def test_a_heat_map_over_its_image_as_documented(tmp_path: Path) -> None:
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[0, 3] = 1  # the upper right of 4 x 4 cells
    write_heatmaps(tmp_path / "a.npz", [Answer("a dog", SIZE, (warm("a dog", 0, heat),))])
    width, height = SIZE
    small = Image.fromarray(np.load(tmp_path / "a.npz")["heat"][0].astype(np.float32))
    large = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    assert large.shape == (40, 60)
    assert large[2, 57] == 1
    assert not large[:, :30].any()


def test_a_phrase_that_was_not_found_is_kept_apart() -> None:
    missing = replace(phrase(), point=None, boxes=(), box_scores=(), score=0.03, reason="its score 0.03 is under 0.1")
    record = record_of("a.jpg", [Answer("A dog runs", SIZE, (missing,))], SIZE)
    assert record["captions"] == [
        {
            "caption": "A dog runs",
            "phrases": [],
            "not_found": [{"phrase": "A dog", "span": [0, 5], "score": 0.03, "reason": "its score 0.03 is under 0.1"}],
        }
    ]
