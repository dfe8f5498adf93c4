"""Asks another model for the same phrases: python docs/howto/compare.py PHOTOS mine.json theirs.jsonl

Put your model in place of `find`. Then both are measured on the same phrases:

    groundcli eval --dataset folder --data PHOTOS --split mine --predictions theirs.jsonl --compare lite
"""

import json
import sys
from pathlib import Path

from PIL import Image


def find(image: Image.Image, phrase: str) -> tuple[list[list[float]], list[float]]:
    """Boxes [x, y, width, height] in pixels with their scores, best first. This one says: the middle."""
    width, height = image.size
    return [[width / 4, height / 4, width / 2, height / 2]], [0.5]


def main(photos: Path, truth: str, out: Path) -> None:
    """Writes a line per phrase of the photographs for which somebody drew a box."""
    data = json.loads((photos / truth).read_text("utf-8"))
    names = {image["id"]: image["file_name"] for image in data["images"]}
    categories = {category["id"]: category["name"] for category in data["categories"]}
    asked = {(names[a["image_id"]], a.get("phrase") or categories[a["category_id"]]) for a in data["annotations"]}
    with out.open("w", encoding="utf-8") as file:
        for name, phrase in sorted(asked):
            with Image.open(photos / name) as image:
                boxes, scores = find(image.convert("RGB"), phrase)
            said = {"image": name, "phrase": phrase, "boxes": boxes, "scores": scores, "score": scores[0]}
            file.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
