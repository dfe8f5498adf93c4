"""Ways to get boxes from a heat map, by their names."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from groundcli.data.sample import Box
from groundcli.grounding.authors_boxes import authors_boxes
from groundcli.grounding.sides_boxes import sides_boxes

Method = Literal["sides", "authors"]
DEFAULT: Method = "sides"

# From a heat map (M, M) and the image's size (width, height): boxes (x, y, width, height) in pixels of the image, best
# first, and as many scores in (0, 1].
METHODS: Mapping[Method, Callable[[np.ndarray, tuple[int, int]], tuple[list[Box], list[float]]]] = {
    "sides": sides_boxes,
    "authors": authors_boxes,
}
