"""Peak memory of annotate where it could grow, and whether it stays under what docs/reliability.md promises.

    python benchmarks/memory.py [CASE ...]

Photographs are generated: smooth noise, with captions. A case's peak is the resident memory of the command's process,
all of its threads included, at its highest. Ends with 1 where one is over its ceiling.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CAPTION = "a man in a red shirt rides a brown horse past an old wooden house\n"
# What grows with the number of images does so with any model.
SMALL = [
    "--set",
    "model.visual.image_size=96",
    "--set",
    "model.visual.grid=6",
]


class Case(NamedTuple):
    """What is annotated, with which options, and how much memory (MiB) it may take."""

    make: Callable[[Path], None]
    ceiling: int
    options: tuple[str, ...] = ()


def photographs(
    count: int, size: tuple[int, int], suffix: str = ".jpg", captions: str = CAPTION
) -> Callable[[Path], None]:
    """Makes so many, of (width, height) pixels, into a folder."""

    def make(folder: Path) -> None:
        draw = np.random.default_rng(0)
        for i in range(count):
            noise = Image.fromarray(draw.integers(0, 256, (12, 16, 3), np.uint8))
            noise.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:06d}{suffix}", compress_level=1)
            (folder / f"{i:06d}.txt").write_text(captions)

    return make


MANY = "".join(f"a {i} year old man rides horse number {i}\n" for i in range(20_000))
CASES = {
    "1 image": Case(photographs(1, (1024, 768)), 1300),
    "100 images": Case(photographs(100, (320, 240)), 1300, (*SMALL,)),
    "10,000 images": Case(photographs(10_000, (320, 240)), 1300, (*SMALL,)),
    "8 workers": Case(photographs(24, (4000, 3000)), 2600, ("--workers", "8")),
    "20,000 captions": Case(photographs(1, (1024, 768), captions=MANY), 2000),
    "100 megapixels, JPEG": Case(photographs(1, (10_000, 10_000)), 2400),
    "100 megapixels, PNG": Case(photographs(1, (10_000, 10_000), ".png"), 2400),
}


def peak(case: Case) -> tuple[float, float]:
    """MiB, and seconds that the command took."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        folder.mkdir()
        case.make(folder)
        command = [sys.executable, "-m", "groundcli", "annotate", str(folder), "--out", str(Path(place) / "out")]
        start = time.perf_counter()
        process = subprocess.Popen([*command, *case.options], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            sys.exit(f"annotate ended with {os.waitstatus_to_exitcode(status)}")
        return usage.ru_maxrss / 1024, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES), default=[*CASES])
    names = parser.parse_args().cases
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"{unknown[0]}: expected {', '.join(CASES)}")
    over = 0
    for name in names:
        mib, seconds = peak(CASES[name])
        over += mib > CASES[name].ceiling
        held = "held" if mib <= CASES[name].ceiling else "OVER IT"
        print(f"{name:22} {mib:6,.0f} MiB of {CASES[name].ceiling:6,} MiB, {held}; {seconds:5.0f} s", flush=True)
    sys.exit(bool(over))


if __name__ == "__main__":
    main()
