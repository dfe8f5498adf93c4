"""Tasks for Label Studio, where people look through annotations and correct them."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from groundcli.files import replacing
from groundcli.output.coco import json_list
from groundcli.output.record import Label, Record, Writer, phrases_of

POINT_SIZE = 0.5  # per cent of the image's width that a point is drawn with


@contextmanager
def labelstudio(out: Path, label: Label = str.lower, prefix: str = "") -> Iterator[Writer]:
    """Writes `labelstudio.json`, pre-annotated tasks to import, and `labelstudio.xml`, the labelling interface for it.

    One task per image: `data` has its address in `image` and its captions, a line each, in `caption`. Its prediction
    has of each phrase a rectangle, the best box (where none was found, the hot region around its point), and a
    keypoint: x and width in per cent of the image's width, y and height in per cent of its height, from the upper left
    corner of the upright image on. x and y of a rectangle are its upper left corner; width of a keypoint is only how
    large it is drawn. A rectangle has the phrase's label; a space stands for what can't be printed in it. Both have the
    phrase as `meta.text` and its score in [0, 1] as `score`; the prediction's own score is the mean of these. Numbers
    in the ids of results count phrases from 1.

    `prefix` makes an address of an image's name: `http://localhost:8080/photos/`; see `_address`. Raises OSError.
    """
    labels: dict[str, None] = {}
    numbers = count(1)
    with replacing(out / "labelstudio.json") as file, json_list(file) as add:

        def write(record: Record) -> None:
            results, scores = [], []
            for _, phrase in phrases_of(record):
                name = "".join(char if char.isprintable() else " " for char in label(phrase["phrase"]))
                labels[name] = None
                results += _results(record, phrase, name, next(numbers))
                scores.append(phrase["score"])
            score = round(sum(scores) / max(len(scores), 1), 6)
            prediction = {"model_version": "groundcli", "score": score, "result": results}
            captions = "\n".join(caption["caption"] for caption in record["captions"])
            data = {"image": _address(prefix, record["file_name"]), "caption": captions}
            add({"data": data, "predictions": [prediction] if results else []})

        yield write
    with replacing(out / "labelstudio.xml") as file:
        file.write('<View>\n  <Text name="caption" value="$caption"/>\n  <Image name="image" value="$image"/>\n')
        # Points without labels: with KeyPointLabels of these names, Label Studio's COCO calls all boxes "default".
        file.write('  <KeyPoint name="point" toName="image"/>\n  <RectangleLabels name="box" toName="image">\n')
        file.writelines(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
        file.write("  </RectangleLabels>\n</View>\n")


def _address(prefix: str, name: str) -> str:
    """An image's address: quoted where it is a URL or a path of Label Studio's own server, not in a bucket."""
    if not prefix:
        return name
    slash = "" if prefix.endswith(("/", "=")) else "/"
    return prefix + slash + (quote(name) if prefix.startswith(("http://", "https://", "/")) else name)


def _results(record: Record, phrase: Record, label: str, number: int) -> list[Record]:
    """A phrase's rectangle and keypoint."""
    width, height = record["width"], record["height"]
    places = zip([*phrase["bbox"], *phrase["keypoints"][:2]], 3 * (width, height), strict=True)
    left, top, wide, high, x, y = (round(100 * pixels / side, 6) for pixels, side in places)
    box = {"x": left, "y": top, "width": wide, "height": high, "rotation": 0, "rectanglelabels": [label]}
    point = {"x": x, "y": y, "width": POINT_SIZE}
    common = {
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": phrase["score"],
        "meta": {"text": [phrase["phrase"]]},
    }
    return [
        {"id": f"box{number}", "type": "rectanglelabels", "from_name": "box", "value": box, **common},
        {"id": f"point{number}", "type": "keypoint", "from_name": "point", "value": point, **common},
    ]
