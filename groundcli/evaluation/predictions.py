"""Points and boxes of any other model, from a file, on the same phrases."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from groundcli.data import Box, Caption, Phrase
from groundcli.errors import GroundcliError
from groundcli.evaluation.metrics import Predicted, Truth
from groundcli.evaluation.systems import EVALUATED, Predictions

Key = tuple[str, ...]
Said = dict[str, Any]  # an object of the file


class _Phrase(NamedTuple):
    """What a file says of a phrase: boxes with their scores, points and scores as far as it has them."""

    boxes: list[tuple[float, Box]]
    points: list[tuple[float, float]]
    scores: list[float]


class PredictionFile:
    """A system that answers from a file.

    The file is JSON lines or a JSON list; an object of it is about one phrase of one image:

        {"image": "Flickr30k_Images/1.jpg", "caption": 0, "span": [0, 5], "phrase": "A man",
         "point": [x, y], "boxes": [[x, y, width, height], ...], "scores": [0.9, ...], "score": 0.9}

    - The image: `image` or `file_name`, the name in the data set or the file's name alone; or `image_id`, the file's
      name without its suffix.
    - The phrase: `span` or `phrase` (letters' case and white space don't count), of the `caption`, its number in the
      image counted from 0 or its text. Without a caption the prediction is for all phrases of the image that read so.
    - What is said: `point`, or `keypoints` [x, y, ...]; `boxes` with `scores`, or a list of {"bbox", "score"}; or
      `bbox` and `score`, in which case several objects about one phrase are its boxes. Boxes go best first. A phrase
      without a point gets the middle of its best box.

    So `phrases.jsonl` of `annotate --format jsonl` is one, and COCO results whose objects name a phrase. Of a run of
    annotate, `annotations.json` is read too, and `results.json` with the names that lie beside it there.

    A phrase that the file doesn't speak of is missing: a miss in everything.
    """

    threads = 1
    side = 0  # no pixels are wanted
    levels: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        """Reads a file. Raises GroundcliError that names the object, counted from 1, that isn't as above."""
        self.name = str(path)
        self._missing: list[tuple[str, str]] = []  # phrases, and their images
        self._phrases: dict[Key, _Phrase] = defaultdict(lambda: _Phrase([], [], []))
        self._used: set[Key] = set()
        for number, said in enumerate(_objects(path), start=1):
            try:
                self._take(said)
            except (KeyError, TypeError, ValueError) as error:
                reason = f"has no {error}" if isinstance(error, KeyError) else str(error)
                raise GroundcliError(f"{path}: object {number}: {reason}") from None
        self._images = {key[0] for key in self._phrases}
        self._has_boxes = any(phrase.boxes for phrase in self._phrases.values())

    @property
    def missing(self) -> int:
        """Phrases that were asked for so far and aren't in the file. Raises GroundcliError where none is."""
        if self._missing and not self._used:
            theirs, (text, image) = next(iter(self._phrases), None), self._missing[0]
            first = f"its first is {theirs[-1]!r} of {theirs[0]!r}" if theirs else "it is empty"
            said = f"speaks of no phrase of these images: {first}; what is asked for is like {text!r} of {image!r}"
            raise GroundcliError(f"{self.name}: {said}")
        return len(self._missing)

    @property
    def unused(self) -> int:
        """Phrases that the file speaks of and nobody asked for so far."""
        return len(self._phrases.keys() - self._used)

    def __call__(self, pixels: Sequence[np.ndarray], truths: Sequence[Truth]) -> list[Predictions]:
        """See `systems.System`."""
        return [{(EVALUATED, self.name): self._predicted(truth)} for truth in truths]

    def _take(self, said: Said) -> None:
        phrase = self._phrases[_key(said)]
        (score,) = _numbers([said.get("score", 1.0)], 1)
        boxes = said.get("boxes", [said["bbox"]] if "bbox" in said else [])
        for box, its_score in zip(boxes, said.get("scores", [score] * len(boxes)), strict=True):
            values, value = (box["bbox"], box["score"]) if isinstance(box, dict) else (box, its_score)
            phrase.boxes.append((*_numbers([value], 1), _numbers(values, 4)))
        if point := said.get("point") or (said.get("keypoints") or [])[:2]:
            phrase.points.append(_numbers(point, 2))
        if "score" in said:
            phrase.scores.append(score)

    def _predicted(self, truth: Truth) -> Predicted:
        phrases = [
            self._of(truth.sample.name, number, caption, phrase)
            for number, caption in enumerate(truth.captions)
            for phrase in caption.phrases
        ]
        boxes = [[box for _, box in sorted(phrase.boxes, key=lambda scored: -scored[0])] for phrase in phrases]
        points = [_point(phrase, best_first) for phrase, best_first in zip(phrases, boxes, strict=True)]
        scores = [max(phrase.scores, default=np.nan) for phrase in phrases]
        return Predicted(np.array(points), boxes=boxes if self._has_boxes else None, scores=np.array(scores))

    def _of(self, name: str, number: int, caption: Caption, phrase: Phrase) -> _Phrase:
        names = name, PurePosixPath(name).name, PurePosixPath(name).stem
        image = next((known for known in names if known in self._images), "")
        span, text = f"{phrase.span[0]}-{phrase.span[1]}", _plain(phrase.text)
        captions = str(number), _plain(caption.text)
        for key in (*((image, c, p) for p in (span, text) for c in captions), (image, text)):
            if key in self._phrases:
                self._used.add(key)
                return self._phrases[key]
        self._missing.append((phrase.text, name))
        return _Phrase([], [], [0.0])


def _objects(path: Path) -> Iterable[Said]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GroundcliError(f"--predictions {path}: can't be read ({error})") from None
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return _lines(path, text)
    try:
        if isinstance(whole, dict) and "annotations" in whole:
            return _with_names(whole["annotations"], whole)
        objects = whole if isinstance(whole, list) else [whole]
        beside = path.with_name("annotations.json")
        if all(isinstance(said, dict) and said.keys() & {"phrase", "span"} for said in objects) or not beside.is_file():
            return objects
        return _with_names(objects, json.loads(beside.read_text("utf-8")))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise GroundcliError(f"{path}: its COCO ids don't fit together ({error!r})") from None


def _lines(path: Path, text: str) -> Iterator[Said]:
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            if line.strip():
                yield json.loads(line)
        except json.JSONDecodeError as error:
            raise GroundcliError(f"{path}:{number}: not JSON ({error.msg})") from None


def _with_names(objects: Iterable[Said], data: Mapping[str, Any]) -> list[Said]:
    """COCO's annotations or results with what a data set has for their ids; without a phrase the category is it."""
    images = {image["id"]: image["file_name"] for image in data["images"]}
    captions = {caption["id"]: caption["caption"] for caption in data.get("captions", [])}
    categories = {category["id"]: category["name"] for category in data.get("categories", [])}
    return [
        said
        | {"image": images[said["image_id"]]}
        | ({"caption": captions[said["caption_id"]]} if "caption_id" in said else {})
        | ({} if "phrase" in said else {"phrase": categories[said["category_id"]]})
        for said in objects
    ]


def _key(said: Said) -> Key:
    if not isinstance(said, dict):
        raise ValueError("not an object {...}")
    image = next((str(said[key]) for key in ("image", "file_name", "image_id") if key in said), None)
    if image is None:
        raise ValueError("names no image: give it `image`, `file_name` or `image_id`")
    caption = said.get("caption")
    if "span" in said and caption is not None:
        start, end = said["span"]
        return image, _plain(str(caption)), f"{start}-{end}"
    if "phrase" not in said:
        raise ValueError("names no phrase: give it `phrase`, or `caption` and `span`")
    text = _plain(said["phrase"])
    return (image, text) if caption is None else (image, _plain(str(caption)), text)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _point(phrase: _Phrase, best_first: Sequence[Box]) -> tuple[float, float]:
    if phrase.points:
        return phrase.points[0]
    x, y, width, height = best_first[0] if best_first else [math.nan] * 4
    return x + width / 2, y + height / 2


def _numbers(values: Any, count: int) -> Any:
    """A tuple of so many finite numbers. Raises ValueError."""
    numbers = tuple(map(float, values)) if isinstance(values, list) else ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected {count} finite numbers, not {values!r}")
    return numbers
