"""Small data sets in the layouts and formats that the real ones are published in."""

import json
import pickle
from pathlib import Path
from typing import Any

from tests.data.files import write
from tests.shapes import SIZE, draw_shape

BALL = [20.0, 30.0, 60.0, 60.0]  # x, y, width, height of the red ball in every picture
WIDTH, HEIGHT = SIZE


def ball(path: Path, colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_shape(colour, "circle", (20, 30)).save(path)


def write_json(root: Path, files: dict[str, object]) -> None:
    write(root, {name: json.dumps(content) for name, content in files.items()})


def coco(root: Path, part: str = "val2017", number: int = 139, folder: str = "") -> str:
    """One part of COCO with one image; gives its name."""
    prefix = f"COCO_{part}_" if part.endswith("2014") else ""
    name = f"{prefix}{number:012}.jpg"
    image = {"license": 2, "file_name": name, "coco_url": "", "height": HEIGHT, "width": WIDTH, "id": number}
    head = {"info": {"year": 2017}, "licenses": [{"id": 2, "name": "", "url": ""}], "images": [image]}
    lines = ["A red ball and two men near a bench.\n", "A hot dog beside the sports ball"]
    captions = [{"image_id": number, "id": i, "caption": line} for i, line in enumerate(lines, start=500)]
    instance = {"segmentation": [[20, 30, 80, 30, 80, 90]], "area": 1800.0, "iscrowd": 0, "image_id": number}
    instances = [
        instance | {"bbox": BALL, "category_id": 37, "id": 1},
        instance | {"bbox": [100, 0, 10, 20], "category_id": 1, "id": 2},
        instance | {"bbox": [120, 0, 10, 20], "category_id": 1, "id": 3},
        {"segmentation": {"counts": [0, 9], "size": [HEIGHT, WIDTH]}, "area": 9, "iscrowd": 1, "image_id": number}
        | {"bbox": [0, 0, 200, 100], "category_id": 1, "id": 900100000004},
        {"segmentation": {"counts": [0, 9], "size": [HEIGHT, WIDTH]}, "area": 9, "iscrowd": 1, "image_id": number}
        | {"bbox": [0, 90, 200, 50], "category_id": 15, "id": 901500000005},
    ]
    categories = [
        {"supercategory": "person", "id": 1, "name": "person"},
        {"supercategory": "outdoor", "id": 15, "name": "bench"},
        {"supercategory": "sports", "id": 37, "name": "sports ball"},
    ]
    write_json(
        root,
        {
            f"annotations/captions_{part}.json": head | {"annotations": captions},
            f"annotations/instances_{part}.json": head | {"annotations": instances, "categories": categories},
        },
    )
    ball(root / folder / part / name)
    return name


def visual_genome(root: Path) -> None:
    """Two images, one in each folder; `splits/one.txt` holds the second."""

    def image(number: int, folder: str) -> dict[str, Any]:
        url = f"https://cs.stanford.edu/people/rak248/{folder}/{number}.jpg"
        size = {"width": 2 * WIDTH, "height": 2 * HEIGHT}  # the file has half of it
        return {**size, "url": url, "image_id": number, "coco_id": None, "flickr_id": None}

    def region(number: int, image_id: int, phrase: str, *box: int) -> dict[str, Any]:
        x, y, width, height = box
        place = {"width": width, "height": height, "image_id": image_id}
        return {"region_id": number, **place, "phrase": phrase, "y": y, "x": x}

    first = [
        region(1, 1, "a red ball ", 40, 60, 120, 120),
        region(2, 1, "a red ball", 0, 0, 20, 20),
        region(3, 1, "one two three four five six seven eight nine ten", 0, 0, 20, 20),
        region(4, 1, "the wall", -10, 10, 1000, 40),
        region(5, 1, "the sky", 500, 10, 10, 40),
        region(6, 1, " ", 5, 10, 10, 40),
    ]
    write_json(
        root,
        {
            "image_data.json": [image(1, "VG_100K_2"), image(2, "VG_100K")],
            "region_descriptions.json": [
                {"id": 1, "regions": first},
                {"id": 2, "regions": [region(7, 2, "a ball", 40, 60, 120, 120)]},
            ],
        },
    )
    write(root, {"splits/one.txt": "2\n"})
    ball(root / "VG_100K_2/1.jpg")
    ball(root / "VG_100K/2.jpg")


def referit(root: Path, folder: str = "refclef", owner: str = "berkeley") -> None:
    """A validation image with two things, and one image of a test split, as the `refer` zip files unpack."""

    def ref(number: int, image: int, split: str, *texts: str) -> dict[str, Any]:
        sentences = [
            {"tokens": text.split(), "raw": text, "sent_id": 10 * number + i, "sent": text}
            for i, text in enumerate(texts)
        ]
        ids = {"ann_id": number, "ref_id": number, "image_id": image, "category_id": 3}
        name = {"file_name": f"{image}_1.jpg", "split": split, "sent_ids": [s["sent_id"] for s in sentences]}
        return {**ids, **name, "sentences": sentences}

    refs = [
        ref(1, 112, "val", "red ball", "the ball", "red ball"),
        ref(2, 112, "val", "red ball"),
        ref(3, 12345, "testAB" if owner == "unc" else "test", "the sky"),
    ]
    write(root, {f"{folder}/refs({owner}).p": pickle.dumps(refs, protocol=2)})
    thing = {"segmentation": [{"counts": "`", "size": [HEIGHT, WIDTH]}], "area": 3600, "mask_name": "", "iscrowd": 0}
    write_json(
        root,
        {
            f"{folder}/instances.json": {
                "info": {},
                "licenses": [],
                "images": [
                    {"file_name": "00/images/112.jpg", "height": HEIGHT, "width": WIDTH, "id": 112},
                    {"file_name": "12/images/12345.jpg", "height": HEIGHT, "width": WIDTH, "id": 12345},
                ],
                "annotations": [
                    thing | {"id": 1, "image_id": 112, "category_id": 3, "bbox": BALL},
                    thing | {"id": 2, "image_id": 112, "category_id": 3, "bbox": [100, 0, 10, 20]},
                    thing | {"id": 3, "image_id": 12345, "category_id": 3, "bbox": [0, 0, 240, 50]},
                ],
                "categories": [{"supercategory": "toys", "id": 3, "name": "ball"}],
            }
        },
    )
    for name in ("00/images/112.jpg", "12/images/12345.jpg"):
        ball(root / "images/saiapr_tc-12" / name)
