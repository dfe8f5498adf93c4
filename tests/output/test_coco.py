import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from groundcli.data.sample import Box
from groundcli.errors import GroundcliError
from groundcli.grounding.answer import Answer, GroundedPhrase
from groundcli.output.coco import CocoWriter, hot_region

SIZE = (60, 40)  # width, height


def heat_at(row: int, column: int, side: int = 4) -> np.ndarray:
    heat = np.zeros((side, side), dtype=np.float32)
    heat[row, column] = 0.7
    return heat


def phrase(
    text: str, span: tuple[int, int], boxes: tuple[Box, ...] = (), heat: np.ndarray | None = None
) -> GroundedPhrase:
    scores = tuple(0.9 - 0.2 * i for i in range(len(boxes)))
    heat = heat_at(0, 3) if heat is None else heat
    return GroundedPhrase(text, span, (52.25, 5.0), boxes, scores, 0.61803398875, 2, heat)


def write(folder: Path) -> Path:
    with CocoWriter(folder) as writer:
        dog = Answer("A dog runs", SIZE, (phrase("A dog", (0, 5), ((40.123, 2, 15, 12), (0, 0, 10, 10))),))
        two = Answer("a dog, a bird", SIZE, (phrase("a dog", (0, 5)), phrase("a bird", (7, 13), ((1, 2, 3, 4),))))
        writer.add("sub/a.jpg", SIZE, [dog, two])
        writer.add("nothing.jpg", (7, 9), [])
        writer.add("b.jpg", SIZE, [two])
    return folder


def test_pycocotools_reads_the_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = COCO(write(tmp_path) / "annotations.json")
    assert [coco.imgs[i]["file_name"] for i in (1, 2, 3)] == ["sub/a.jpg", "nothing.jpg", "b.jpg"]
    assert (coco.imgs[2]["width"], coco.imgs[2]["height"]) == (7, 9)
    assert {cat["name"]: cat["id"] for cat in coco.cats.values()} == {"a dog": 1, "a bird": 2}  # by first appearance
    assert list(coco.anns) == [1, 2, 3, 4, 5]
    first = coco.anns[1]
    assert first["bbox"] == [40.12, 2, 15, 12]
    assert first["keypoints"] == [52.25, 5, 2]
    assert (first["phrase"], first["span"], first["level"], first["caption_id"]) == ("A dog", [0, 5], 2, 1)
    assert [box["bbox"] for box in first["boxes"]] == [[40.12, 2, 15, 12], [0, 0, 10, 10]]
    assert [a["caption_id"] for a in coco.anns.values()] == [1, 2, 2, 3, 3]
    assert [(c["id"], c["image_id"], c["caption"]) for c in coco.dataset["captions"]] == [
        (1, 1, "A dog runs"),
        (2, 1, "a dog, a bird"),
        (3, 3, "a dog, a bird"),
    ]
    assert coco.getAnnIds(imgIds=[1], catIds=[1]) == [1, 2]


def test_masks_are_the_hot_region(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = COCO(write(tmp_path) / "annotations.json")
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert mask.shape == (40, 60)
        assert mask.sum() == annotation["area"]
        assert mask[2, 57]  # the hot cell is the upper right one
        assert not mask[:, :30].any()


def test_results_are_detections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = COCO(write(tmp_path) / "annotations.json")
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(r["image_id"], r["category_id"]) for r in results] == [(1, 1), (1, 1), (1, 1), (1, 2), (3, 1), (3, 2)]
    assert [r["score"] for r in results[:3]] == [0.9, 0.7, 0.618034]  # without a box: the phrase's own score
    loaded = coco.loadRes(str(tmp_path / "results.json"))
    assert len(loaded.anns) == 6
    assert loaded.annToMask(loaded.anns[1]).sum() > 0


@pytest.mark.parametrize(
    ("heat", "box"),
    [
        (heat_at(0, 3), [50, 0, 10, 9]),  # the hot region around the point, in the upper right corner
        (heat_at(3, 0), [52, 5, 1, 1]),  # hot elsewhere: the point's own pixel
        (np.zeros((4, 4), dtype=np.float32), [52, 5, 1, 1]),  # no heat at all
    ],
)
def test_box_where_none_was_found(tmp_path: Path, heat: np.ndarray, box: list[float]) -> None:
    with CocoWriter(tmp_path) as writer:
        writer.add("a.jpg", SIZE, [Answer("a dog", SIZE, (phrase("a dog", (0, 5), (), heat),))])
    (annotation,) = json.loads((tmp_path / "annotations.json").read_text())["annotations"]
    x, y, width, height = annotation["bbox"]
    if box[2] > 1:
        assert x <= 52 < x + width <= 60
        assert y <= 5 < y + height <= 40
        assert width > 5
    else:
        assert annotation["bbox"] == box
    assert annotation["boxes"] == []


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (640, 480)])
def test_hot_region_covers_the_image(size: tuple[int, int]) -> None:
    assert hot_region(np.ones((9, 9), dtype=np.float32), size).shape == size[::-1]
    assert hot_region(np.ones((9, 9), dtype=np.float32), size).all()
    assert not hot_region(np.zeros((9, 9), dtype=np.float32), size).any()


def test_equal_answers_give_equal_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "one"), write(tmp_path / "two")
    for name in ("annotations.json", "results.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_an_empty_run_is_a_valid_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CocoWriter(tmp_path).close()
    assert COCO(tmp_path / "annotations.json").getImgIds() == []
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_nothing_is_replaced_before_the_end(tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text("older")
    writer = CocoWriter(tmp_path)
    writer.add("a.jpg", SIZE, [])
    assert (tmp_path / "annotations.json").read_text() == "older"
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations.json", "annotations.jsonl", "results.json"]


def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole")
    lines = (whole / "annotations.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "annotations.jsonl").write_bytes(lines[0] + lines[1] + lines[2][:50])  # killed as it wrote
    writer = CocoWriter(tmp_path / "killed", resume=True)
    assert writer.done == {"sub/a.jpg", "nothing.jpg"}
    two = Answer("a dog, a bird", SIZE, (phrase("a dog", (0, 5)), phrase("a bird", (7, 13), ((1, 2, 3, 4),))))
    writer.add("b.jpg", SIZE, [two])
    writer.close()
    for name in ("annotations.json", "results.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (whole / name).read_bytes()


def test_without_resume_a_run_starts_anew(tmp_path: Path) -> None:
    write(tmp_path)
    writer = CocoWriter(tmp_path)
    assert writer.done == set()
    writer.close()
    assert json.loads((tmp_path / "annotations.json").read_text())["images"] == []


@pytest.mark.parametrize("content", ["nonsense\n", '{"no": "name"}\n', "[]\n"])
def test_a_damaged_journal_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "annotations.jsonl").write_text(content)
    with pytest.raises(GroundcliError, match=r"annotations\.jsonl: damaged"):
        CocoWriter(tmp_path, resume=True)


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(GroundcliError, match="--out"):
        CocoWriter(tmp_path / "out")
