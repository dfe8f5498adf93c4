"""What grounding gives back: plain numbers in pixels of the upright image. Nothing here is torch's."""

import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from groundcli import heat
from groundcli.data import Box, Caption
from groundcli.errors import GroundcliError
from groundcli.files import replacing
from groundcli.heat import features, probability
from groundcli.heat.boxes import Boxes, Method, find_boxes

SHOWN = 6  # phrases that the one line about an answer names


@dataclass(frozen=True, slots=True, repr=False)
class GroundedPhrase:
    """Where one phrase of a caption is.

    Attributes:
        text: the phrase, exactly as the caption has it.
        span: character offsets (start, end) into the caption, end excluded.
        size: (width, height) of the image in pixels.
        point: (x, y) of the likeliest pixel; None where the phrase was not found.
        boxes: (x, y, width, height), best first; may be empty, and is where the phrase was not found.
        box_scores: one number in [0, 1] per box: how likely it matches (IoU >= 0.5), where the
            weights are calibrated.
        score: how likely the thing is there and the point is on it, a probability, where the weights are calibrated;
            else how well the phrase fits its place, a cosine in [0, 1]. 0 where there is no heat.
        level: index of the visual level that fits the phrase best.
        heatmap: (M, M) float32, non-negative, over the whole image: cell (i, j) covers the i-th of M equal
            rows and the j-th of M equal columns.
        reason: why the phrase was not found; empty where it was.
    """

    text: str
    span: tuple[int, int]
    size: tuple[int, int]
    point: tuple[float, float] | None
    boxes: tuple[Box, ...]
    box_scores: tuple[float, ...]
    score: float
    level: int
    heatmap: np.ndarray = field(compare=False)
    reason: str = ""

    @property
    def found(self) -> bool:
        """Whether the phrase was found in the image."""
        return not self.reason

    @property
    def mask(self) -> np.ndarray | None:
        """(height, width) bool, the pixels of the best box that belong to the phrase; see `groundcli.heat.mask`."""
        return heat.mask(self.heatmap, self.size, self.boxes[0] if self.boxes else None) if self.found else None

    @property
    def xyxy(self) -> np.ndarray | None:
        """(K, 4) float64, the corners (left, top, right, bottom) of the boxes in pixels of the image, best first."""
        if not self.found:
            return None
        boxes = np.array(self.boxes, dtype=float).reshape(-1, 4)
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)

    def heat(self, size: tuple[int, int] | None = None) -> np.ndarray | None:
        """The heat map at a size (width, height), by default the image's: (height, width) float32, bilinear."""
        return np.ascontiguousarray(heat.resize(self.heatmap, size or self.size)) if self.found else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; coordinates in pixels of the image, rounded to hundredths, and no heat map."""
        return {
            "text": self.text,
            "span": [int(end) for end in self.span],
            "point": _rounded(self.point) if self.point else None,
            "boxes": [
                {"bbox": _rounded(box), "score": round(float(score), 6)}
                for box, score in zip(self.boxes, self.box_scores, strict=True)
            ],
            "score": round(float(self.score), 6),
            "level": int(self.level),
            "found": self.found,
        }

    def __repr__(self) -> str:
        if self.point is None:
            return f"<GroundedPhrase {_short(self.text)} not found: {self.reason}>"
        return f"<GroundedPhrase {_short(self.text)} at ({self.point[0]:g}, {self.point[1]:g}), score {self.score:.2f}>"


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """One caption on one image.

    Attributes:
        caption: the text that was encoded, without any markup.
        size: (width, height) of the image in pixels; points and boxes refer to it.
        phrases: in the order of the caption.
        image: the picture itself or its file, to draw on, where there is one.
    """

    caption: str
    size: tuple[int, int]
    phrases: tuple[GroundedPhrase, ...]
    image: Image.Image | Path | None = field(default=None, compare=False)

    def followed_by(self, others: Sequence["Answer"], separator: str = ", ") -> "Answer":
        """This answer and others on the same image as one, with something between their captions."""
        text, phrases = self.caption, list(self.phrases)
        for other in others:
            text += separator
            phrases += [replace(p, span=(p.span[0] + len(text), p.span[1] + len(text))) for p in other.phrases]
            text += other.caption
        return replace(self, caption=text, phrases=tuple(phrases))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, with those of each phrase."""
        phrases = [phrase.to_dict() for phrase in self.phrases]
        return {"caption": self.caption, "width": self.size[0], "height": self.size[1], "phrases": phrases}

    def to_coco(self, image_id: int = 1, file_name: str = "") -> dict[str, Any]:
        """A COCO data set of this image alone, as `annotations.json` of `annotate` has it; other ids count from 1.

        `file_name` is of the image, by default that of its file.
        """
        from groundcli.output.coco import data_set
        from groundcli.output.record import record_of

        name = file_name or (self.image.name if isinstance(self.image, Path) else "")
        return data_set(record_of(name, [self], self.size), image_id)

    def to_supervision(self) -> Any:
        """The best box of each phrase as `supervision.Detections`, with masks, scores and the phrases' texts.

        Raises:
            GroundcliError: the package supervision isn't installed.
        """
        try:
            import supervision
        except ImportError:
            raise GroundcliError("to_supervision needs a package; install it with: pip install supervision") from None
        phrases = [phrase for phrase in self.phrases if phrase.boxes]
        if not phrases:
            return supervision.Detections.empty()
        return supervision.Detections(
            xyxy=np.concatenate([phrase.xyxy[:1] for phrase in phrases if phrase.xyxy is not None]),
            mask=np.stack([phrase.mask for phrase in phrases if phrase.mask is not None]),
            confidence=np.array([phrase.score for phrase in phrases]),
            class_id=np.arange(len(phrases)),
            data={"class_name": np.array([phrase.text for phrase in phrases])},
        )

    def draw(self) -> Image.Image:
        """The picture with what was found, RGB; see `groundcli.output.overlays`.

        Raises:
            GroundcliError: the answer has no image, as it was made of encoded cells alone.
            BadInput: the image's file can't be decoded any more.
        """
        from groundcli.data.images import decode
        from groundcli.output.overlays import draw

        if self.image is None:
            raise GroundcliError("this answer has no image to draw on; ground the image itself, not its cells alone")
        return draw(self.image if isinstance(self.image, Image.Image) else decode(self.image), [self])

    def save(self, path: str | Path) -> None:
        """Writes what `draw` gives, in the format of the path's suffix. Raises as it, and GroundcliError."""
        picture, path = self.draw(), Path(path)
        try:
            kind = Image.registered_extensions()[path.suffix.lower()]
            with replacing(path, "wb") as file:
                picture.save(file, kind)
        except KeyError:
            raise GroundcliError(f"{path}: no format of pictures; name it .jpg or .png") from None
        except OSError as error:
            raise GroundcliError(f"{path}: can't be written ({error.strerror or error})") from None

    def show(self) -> None:
        """Shows the picture: in a notebook below the cell, elsewhere in the system's viewer."""
        notebook: Any = sys.modules.get("IPython")
        if notebook is not None and notebook.get_ipython() is not None:
            notebook.display.display(self.draw())
        else:
            self.draw().show()

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows of an answer."""
        if self.image is None:
            return None
        file = io.BytesIO()
        self.draw().save(file, "PNG")
        return file.getvalue()

    def __repr__(self) -> str:
        width, height = self.size
        shown = self.phrases[:SHOWN]
        phrases = ", ".join(f"{_short(p.text)} {f'{p.score:.2f}' if p.found else 'not found'}" for p in shown)
        more = ", ..." if len(self.phrases) > SHOWN else ""
        return f"<Answer {_short(self.caption)} on {width} x {height} pixels: {phrases or 'no phrases'}{more}>"


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 2) for value in values]


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


class PhraseHeat(NamedTuple):
    """What the model says of the P phrases of an image's captions, in order; `answer` reads all else off it.

    Attributes:
        maps: (P, M, M) float32, non-negative.
        scores: (P) float32, the cosine of the phrase's best word; 0 for a phrase without words.
        levels: (P) int64, index of that word's visual level.
        evidence: (P, E) float32, of `groundcli.heat.EVIDENCE`; E is 0 where the weights know no presence.
        extents: (P, M, M) float32, how likely the thing's box covers each cell; 0 where nobody asked for boxes by
            them; (P, 0, M) where the weights know none.
    """

    maps: np.ndarray
    scores: np.ndarray
    levels: np.ndarray
    evidence: np.ndarray
    extents: np.ndarray

    @property
    def features(self) -> np.ndarray:
        """(P, 2 + E) float64, of `groundcli.heat.FEATURES` and the evidence."""
        return np.concatenate([features(self.maps), self.evidence], axis=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """How answers are read off heat maps."""

    calibration: tuple[float, ...] = ()  # of the weights, see `groundcli.heat`; without one, scores are cosines
    box_calibration: tuple[float, ...] = ()  # the same of boxes, see `groundcli.heat.boxes`
    boxes: Method | None = None  # how to find boxes; None finds none
    min_score: float = 0.0  # phrases with a lower score are not found, nor are those without any heat

    def scores(self, found: PhraseHeat) -> np.ndarray:
        """(P) the score of each phrase; 0 where there is no heat."""
        if not self.calibration:
            return found.scores.astype(float)
        return np.where(found.scores > 0, probability(found.features, self.calibration), 0.0)


def answer(
    captions: Sequence[Caption],
    size: tuple[int, int],
    found: PhraseHeat,
    reading: Reading,
    image: Image.Image | Path | None = None,
) -> list[Answer]:
    """Reads points, scores and boxes off heat maps: the only place that does.

    The captions are of one image, (width, height) pixels large, and have their phrases; `found` is the heat of all of
    these, caption by caption, and `image` is for the answers to draw on.
    """
    scores = reading.scores(found)
    reasons = [_reason(score, reading.min_score) for score in scores]
    shown = [i for i, reason in enumerate(reasons) if not reason]
    boxes: list[Boxes] = [([], [])] * len(scores)
    if reading.boxes:
        of_shown = found.maps[shown], found.extents[shown], size, scores[shown].tolist(), reading.box_calibration
        for i, several in zip(shown, find_boxes(reading.boxes, *of_shown), strict=True):
            boxes[i] = several
    points = heat.peak(found.maps, size).tolist()
    read = zip(scores.tolist(), reasons, points, boxes, found.levels.tolist(), found.maps, strict=True)
    answers = []
    for caption in captions:
        phrases = []
        for phrase, (score, reason, point, boxed, level, heatmap) in zip(caption.phrases, read, strict=False):
            place = size, None if reason else tuple(point), tuple(boxed[0]), tuple(boxed[1])
            phrases.append(GroundedPhrase(phrase.text, phrase.span, *place, score, level, heatmap, reason))
        answers.append(Answer(caption.text, size, tuple(phrases), image))
    return answers


def _reason(score: float, least: float) -> str:
    """Why a phrase of a score is not found; empty where it is."""
    if score < least:
        return f"its score {score:.2f} is under {least:g}"
    return "" if score else "no heat"
