"""Boxes from heat maps beside the authors', and how the shares of `sides` were found.

    python benchmarks/boxes.py FLICKR30K [SPLIT] [WEIGHTS]

Every phrase with a box counts. For the shares all combinations of `GRID` are tried, and the one with the best
R@1 wins. Cross-validated over fifths of the images: found on four and measured on the other.
"""

import sys
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from groundcli import Grounder, data
from groundcli.data import Box, Caption
from groundcli.data.images import decode
from groundcli.evaluation.metrics import box_iou, counted_boxes, enclosing_box, first_match, scored_phrases, stacked
from groundcli.heat.boxes import METHODS, MULTIPLES, SHARES, Boxes, boxes_at

GRID = np.array([*product(np.arange(0.34, 0.59, 0.04), np.arange(0.38, 0.63, 0.04), np.arange(0.08, 0.33, 0.04))])
FOLDS = 5


def main() -> None:
    root, split = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "val"
    grounder = Grounder.load(sys.argv[3] if len(sys.argv) > 3 else "lite")
    images, heats, sizes, trues = [], [], [], []
    for number, sample in enumerate(data.load("flickr30k", root, split)):
        encoded = grounder.encode(decode(sample.image))
        captions = [Caption(c.text, scored_phrases(c, encoded.size, "default")) for c in sample.captions]
        answers = grounder.ground_captions(encoded, captions, boxes=False)
        for caption, answer in zip(captions, answers, strict=True):
            for phrase, grounded in zip(caption.phrases, answer.phrases, strict=True):
                images.append(number)
                heats.append(grounded.heatmap)
                sizes.append(encoded.size)
                trues.append(phrase.boxes)
    enclosing = [[enclosing_box(true)] for true in trues]
    print(f"{len(heats)} phrases of {len(set(images))} images, IoU >= 0.5, %")

    def show(name: str, boxes: Callable[[np.ndarray, tuple[int, int]], Sequence[Box]]) -> None:
        found = [boxes(heat, size) for heat, size in zip(heats, sizes, strict=True)]
        any_box, merged = (first_match(stacked(found), stacked(true)) for true in (trues, enclosing))
        within = [100 * float((any_box <= k).mean()) for k in (1, 5)]
        print(f"{name:30} R@1 {within[0]:.1f}  R@5 {within[1]:.1f}  merged R@1 {100 * float((merged <= 1).mean()):.1f}")

    for name, method in METHODS.items():
        if name == "extents":  # which are fitted to true boxes: `groundcli calibrate` says how good they are elsewhere
            continue
        one = partial(boxes_of_one, method)
        show(name, one)
        show(f"{name}, none of 90 %", lambda heat, size, one=one: counted_boxes(one(heat, size), size, "authors"))
        ten = np.stack(heats[:10])
        seconds = min(timeit.repeat(lambda method=method, ten=ten: method(ten, (500, 375)), number=10, repeat=5)) / 100
        print(f"{'':30} {1000 * seconds:.2f} ms per phrase of 500 x 375")
    show("the whole image", lambda _, size: [(0, 0, *size)])

    each = zip(heats, sizes, trues, strict=True)
    tried = np.stack([matched(boxes_at(heat[None], size, GRID)[0], true) for heat, size, true in each])
    best = GRID[tried.mean(0).argmax()]
    fold = np.array(images) % FOLDS
    left_out = [tried[fold == f, tried[fold != f].mean(0).argmax()] for f in range(FOLDS)]
    print(f"shares in use {tuple(SHARES)}; best here {tuple(best.round(2).tolist())}")
    print(
        f"R@1 in use {100 * hits(heats, sizes, trues, np.array(SHARES)):.1f}, best here "
        f"{100 * hits(heats, sizes, trues, best):.1f}, cross-validated {100 * np.concatenate(left_out).mean():.1f}"
    )
    for multiple in MULTIPLES:
        print(f"{multiple} times the shares in use: {hits(heats, sizes, trues, multiple * np.array(SHARES)):.3f}")


def boxes_of_one(method: Callable[..., list[Boxes]], heat: np.ndarray, size: tuple[int, int]) -> list[Box]:
    """What a method gives for a single heat map."""
    ((boxes, _),) = method(heat[None], size)
    return boxes


def matched(boxes: np.ndarray, true: Sequence[Box]) -> np.ndarray:
    """Whether each box of the grid matches a true box; none does where there is no heat."""
    return (box_iou(boxes, true) >= 0.5).any(1)


def hits(
    heats: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], trues: Sequence[Sequence[Box]], shares: np.ndarray
) -> float:
    """R@1 of the box of some shares."""
    found = [boxes_at(heat[None], size, shares[None])[0] for heat, size in zip(heats, sizes, strict=True)]
    return float((first_match(stacked(found), stacked(trues)) <= 1).mean())


if __name__ == "__main__":
    main()
