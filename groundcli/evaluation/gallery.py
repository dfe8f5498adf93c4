"""Cases of an evaluation to look at."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from groundcli.data.images import decode
from groundcli.evaluation.collected import Case, Collected
from groundcli.evaluation.systems import OWN
from groundcli.output.overlays import area, color, draw_box, draw_marker, scaled

SIDE = 480  # longer side of a picture
EACH = 12  # cases of either kind
TRUE = (255, 255, 255)  # the true boxes' colour


class Drawn(NamedTuple):
    """A case, how sure the system is (NaN where it doesn't say), and a JPEG of it as a data URL."""

    case: Case
    confidence: float
    picture: str


def surest(collected: Collected, confidence: np.ndarray, right: bool) -> list[Drawn]:
    """The cases that a system is surest of among those where it is right, or where it is wrong; one an image.

    Args:
        collected: an evaluation.
        confidence: (P), how sure the system is of each phrase; NaN, where it doesn't say, comes last.
        right: whether to show hits or misses.
    """
    hits = collected.measures()[OWN].hit > 0
    order = np.argsort(-confidence, kind="stable")
    chosen = _one_an_image([int(place) for place in order if hits[place] == right], collected.images)
    return [_drawn(collected.cases[place], float(confidence[place])) for place in chosen[:EACH]]


def _one_an_image(places: Sequence[int], images: np.ndarray) -> list[int]:
    first: dict[int, int] = {}
    for place in places:
        first.setdefault(int(images[place]), place)
    return list(first.values())


def _drawn(case: Case, confidence: float) -> Drawn:
    photo = decode(case.path)
    size = photo.size
    photo.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    scale = photo.width / size[0], photo.height / size[1]
    canvas = ImageDraw.Draw(photo)
    for box in case.true:
        draw_box(canvas, area(box, scale), TRUE, 2)
    if case.box:
        draw_box(canvas, area(case.box, scale), color(0), 2)
    if case.point:
        draw_marker(photo, scaled(case.point, scale, photo.size), color(0), 9)
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=80)
    return Drawn(case, confidence, "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii"))
