import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import supervision
from PIL import Image
from pycocotools.coco import COCO

from groundcli.answer import Answer, GroundedPhrase
from groundcli.data import Box
from groundcli.heat import mask
from groundcli.output.coco import coco as coco_writer
from groundcli.output.record import Label, Record, record_of
from tests.shapes import SIDE, write_shapes
from tests.shapes import SIZE as SHAPES_SIZE

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
    return GroundedPhrase(text, span, SIZE, (52.25, 5.0), boxes, scores, 0.61803398875, 2, heat)


DOG = Answer("A dog runs", SIZE, (phrase("A dog", (0, 5), ((40, 2, 15, 12), (0, 0, 10, 10))),))
TWO = Answer("a dog, a bird", SIZE, (phrase("a dog", (0, 5)), phrase("a bird", (7, 13), ((1, 2, 3, 4),))))
IMAGES = [("sub/a.jpg", [DOG, TWO], SIZE), ("nothing.jpg", [], (7, 9)), ("b.jpg", [TWO], SIZE)]


def write(folder: Path, records: Sequence[Record] | None = None, label: Label = str.lower) -> Path:
    folder.mkdir(exist_ok=True)
    with coco_writer(folder, label) as add:
        for record in [record_of(*image) for image in IMAGES] if records is None else records:
            add(record)
    return folder


def test_pycocotools_reads_the_data_set(tmp_path: Path) -> None:
    coco = COCO(write(tmp_path) / "annotations.json")
    assert [coco.imgs[i]["file_name"] for i in (1, 2, 3)] == ["sub/a.jpg", "nothing.jpg", "b.jpg"]
    assert (coco.imgs[2]["width"], coco.imgs[2]["height"]) == (7, 9)
    assert {cat["name"]: cat["id"] for cat in coco.cats.values()} == {"a dog": 1, "a bird": 2}  # by first appearance
    assert list(coco.anns) == [1, 2, 3, 4, 5]
    first = coco.anns[1]
    assert first["bbox"] == [40, 2, 15, 12]
    assert first["keypoints"] == [52.25, 5, 2]
    assert (first["phrase"], first["span"], first["level"], first["caption_id"]) == ("A dog", [0, 5], 2, 1)
    assert [box["bbox"] for box in first["boxes"]] == [[40, 2, 15, 12], [0, 0, 10, 10]]
    assert [a["caption_id"] for a in coco.anns.values()] == [1, 2, 2, 3, 3]
    assert [(c["id"], c["image_id"], c["caption"]) for c in coco.dataset["captions"]] == [
        (1, 1, "A dog runs"),
        (2, 1, "a dog, a bird"),
        (3, 3, "a dog, a bird"),
    ]
    assert coco.getAnnIds(imgIds=[1], catIds=[1]) == [1, 2]


def test_box_mask_and_area_are_one_thing(tmp_path: Path) -> None:
    coco = COCO(write(tmp_path) / "annotations.json")
    for annotation in coco.anns.values():
        hot = coco.annToMask(annotation)
        assert hot.shape == (40, 60)
        assert hot.sum() == annotation["area"]
        rows, columns = np.nonzero(hot)
        left, top = columns.min(), rows.min()
        assert annotation["bbox"] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
        box = tuple(annotation["boxes"][0]["bbox"]) if annotation["boxes"] else None
        assert np.array_equal(hot, mask(heat_at(0, 3), SIZE, box))


def test_results_are_detections(tmp_path: Path) -> None:
    coco = COCO(write(tmp_path) / "annotations.json")
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(r["image_id"], r["category_id"]) for r in results] == [(1, 1), (1, 1), (1, 1), (1, 2), (3, 1), (3, 2)]
    assert [r["score"] for r in results[:3]] == [0.9, 0.7, 0.618034]  # without a box: the phrase's own score
    loaded = coco.loadRes(str(tmp_path / "results.json"))
    assert len(loaded.anns) == 6
    assert loaded.anns[1]["area"] == 15 * 12
    drawn = np.argwhere(loaded.annToMask(loaded.anns[1]))
    assert (drawn.min(axis=0).tolist(), drawn.max(axis=0).tolist()) == ([2, 40], [13, 54])


def test_equal_answers_give_equal_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "one"), write(tmp_path / "two")
    for name in ("annotations.json", "results.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_an_empty_run_is_a_valid_data_set(tmp_path: Path) -> None:
    write(tmp_path, [])
    assert COCO(tmp_path / "annotations.json").getImgIds() == []
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_without_phrases_it_is_a_valid_data_set(tmp_path: Path) -> None:
    write(tmp_path, [record_of("a.jpg", [Answer("well", SIZE, ())], SIZE)])
    coco = COCO(tmp_path / "annotations.json")
    assert (coco.getImgIds(), coco.getAnnIds(), coco.getCatIds()) == ([1], [], [])
    assert coco.dataset["captions"] == [{"id": 1, "image_id": 1, "caption": "well"}]
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_what_a_record_has_beside_stays_out(tmp_path: Path) -> None:
    first = write(tmp_path / "one")
    more = [{"key": "0f", **record_of(*image), "index": i} for i, image in enumerate(IMAGES)]
    for record in more:
        for caption in record["captions"]:
            for said in caption["phrases"]:
                said.pop("heat")
    second = write(tmp_path / "two", more)
    for name in ("annotations.json", "results.json"):
        assert "heat" not in (first / name).read_text()
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_categories_are_named_by_a_function(tmp_path: Path) -> None:
    write(tmp_path, label=lambda phrase: phrase.split()[-1])
    coco = COCO(tmp_path / "annotations.json")
    assert [(cat["id"], cat["name"]) for cat in coco.cats.values()] == [(1, "dog"), (2, "bird")]
    assert coco.anns[1]["phrase"] == "A dog"
    results = json.loads((tmp_path / "results.json").read_text())
    assert [r["category_id"] for r in results] == [1, 1, 1, 2, 1, 2]


HOSTILE = ['a "dog", or\nso', "ein Ärger 😀", "熊 # 1", "back\\slash\u2028</script>", "\t,;'"]


def test_any_text_and_any_name_comes_back(tmp_path: Path) -> None:
    name = 'a folder/ü "熊", #1 %20.jpg'
    phrases = tuple(phrase(text, (0, len(text))) for text in HOSTILE)
    write(tmp_path, [record_of(name, [Answer("\n".join(HOSTILE), SIZE, phrases)], SIZE)])
    coco = COCO(tmp_path / "annotations.json")
    assert coco.imgs[1]["file_name"] == name
    assert coco.dataset["captions"][0]["caption"] == "\n".join(HOSTILE)
    assert [annotation["phrase"] for annotation in coco.anns.values()] == HOSTILE
    assert [cat["name"] for cat in coco.cats.values()] == [text.lower() for text in HOSTILE]


def test_where_no_pixel_is_hot_the_mask_is_the_points(tmp_path: Path) -> None:
    cold = phrase("a dog", (0, 5), (), np.zeros((4, 4), dtype=np.float32))
    write(tmp_path, [record_of("a.jpg", [Answer("a dog", SIZE, (cold,))], SIZE)])
    coco = COCO(tmp_path / "annotations.json")
    assert (coco.anns[1]["area"], coco.anns[1]["bbox"]) == (1, [52, 5, 1, 1])
    mask = coco.annToMask(coco.anns[1])
    assert mask.shape == (40, 60)
    assert np.argwhere(mask).tolist() == [[5, 52]]


def test_another_tool_imports_it(tmp_path: Path) -> None:
    folder = tmp_path / "some photos"
    true = write_shapes(folder / "sub", copies=1)
    records = []
    for name, (x0, y0, _, _) in true.items():
        text = (folder / "sub" / name).with_suffix(".txt").read_text().strip()
        # A heat map as large as the picture is the shape itself.
        heat = np.zeros((SHAPES_SIZE[0], SHAPES_SIZE[0]), dtype=np.float32)
        heat[y0 * 4 // 3 : (y0 + SIDE) * 4 // 3, x0 : x0 + SIDE] = 1
        box = (float(x0), float(y0), float(SIDE), float(SIDE))
        centre = (x0 + SIDE / 2, y0 + SIDE / 2)
        said = GroundedPhrase(text, (0, len(text)), SHAPES_SIZE, centre, (box,), (0.9,), 0.5, 0, heat)
        records.append(record_of(f"sub/{name}", [Answer(text, SHAPES_SIZE, (said,))], SHAPES_SIZE))
    with Image.open(folder / "sub" / next(iter(true))) as picture:
        picture.save(folder / "empty.png")
    records.append(record_of("empty.png", [Answer("well", SHAPES_SIZE, ())], SHAPES_SIZE))
    write(tmp_path / "out", records)

    dataset = supervision.DetectionDataset.from_coco(
        images_directory_path=str(folder), annotations_path=str(tmp_path / "out" / "annotations.json")
    )
    assert len(dataset) == len(true) + 1
    assert dataset.classes == [record["captions"][0]["caption"] for record in records[:-1]]
    for path, image, found in dataset:
        assert image.shape == (SHAPES_SIZE[1], SHAPES_SIZE[0], 3)
        if Path(path).name == "empty.png":
            assert len(found) == 0
            continue
        x0, y0, x1, y1 = true[Path(path).name]
        assert found.xyxy.tolist() == [[x0, y0, x1, y1]]
        colour, shape, _ = Path(path).stem.split("_")
        assert dataset.classes[found.class_id[0]] == f"a {colour} {shape}"
        rows, columns = np.nonzero(found.mask[0])
        assert np.allclose(
            [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], true[Path(path).name], atol=1
        )


def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text("older")
    with pytest.raises(KeyError):
        write(tmp_path, [record_of(*IMAGES[0]), {"file_name": "torn.jpg"}])
    assert (tmp_path / "annotations.json").read_text() == "older"
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations.json", "results.json"]
