"""Heat maps in files, for programs that go on with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from groundcli.answer import Answer
from groundcli.files import replacing


class Heatmaps(NamedTuple):
    """The heat maps of an image, one a phrase, caption by caption.

    Attributes:
        heat: (P, M, M) float16, non-negative, over the whole image: cell (i, j) covers the i-th of M equal rows and
            the j-th of M equal columns. The higher, the better the phrase fits: a cosine, 0 where it is negative.
        phrase: (P,) text of each phrase.
        span: (P, 2) int64, its character offsets (start, end) into the caption, end excluded.
        caption: (P,) int64, which of the image's captions it is from, counted from 0.
    """

    heat: np.ndarray
    phrase: np.ndarray
    span: np.ndarray
    caption: np.ndarray


def write_heatmaps(path: Path, answers: Sequence[Answer]) -> None:
    """Writes an image's heat maps, compressed, with what `Heatmaps` has; its folder has to be there.

    Args:
        path: ends in `.npz`.
        answers: one a caption; all heat maps have the same side. (Without any phrase, M is 0.)

    Raises:
        OSError: the file can't be written.
    """
    numbered = [(number, phrase) for number, answer in enumerate(answers) for phrase in answer.phrases]
    maps = [phrase.heatmap for _, phrase in numbered]
    values = Heatmaps(
        heat=np.stack(maps).astype(np.float16) if maps else np.zeros((0, 0, 0), np.float16),
        phrase=np.array([phrase.text for _, phrase in numbered], dtype=np.str_),
        span=np.array([phrase.span for _, phrase in numbered], dtype=np.int64).reshape(-1, 2),
        caption=np.array([number for number, _ in numbered], dtype=np.int64),
    )
    with replacing(path, "wb") as file:
        np.savez_compressed(file, **values._asdict())


def load_heatmaps(path: Path) -> Heatmaps:
    """Reads what `write_heatmaps` wrote; `numpy.load` alone does, too.

    To lay the heat of a phrase over the image of (width, height) pixels:

        heat = Image.fromarray(heatmaps.heat[0].astype(np.float32))
        heat = np.asarray(heat.resize((width, height), Image.Resampling.BILINEAR))  # (height, width)

    Raises:
        OSError: the file can't be read.
    """
    with np.load(path, allow_pickle=False) as arrays:
        return Heatmaps(*(arrays[name] for name in Heatmaps._fields))
