"""Peak memory of annotate, by how many images there are: it must not grow with them.

    python benchmarks/memory.py FOLDER [--images 100 10000] [--weights NAME] [annotate's options]

The folder's photographs, with their captions, are linked again and again under other names, and the command run on
them. Printed is the peak resident memory of its process, workers not counted, and what an image took.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from groundcli.data.images import is_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 10_000])
    options, others = parser.parse_known_args()
    photos = [path for path in sorted(options.folder.iterdir()) if is_image(path)]
    for count in options.images:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "photos"
            folder.mkdir()
            for i, photo in enumerate(itertools.islice(itertools.cycle(photos), count)):
                for path in (photo, photo.with_suffix(".txt")):
                    shutil.copyfile(path, folder / f"{i:06d}{path.suffix}")
            command = [sys.executable, "-m", "groundcli", "annotate", str(folder), "--out", str(Path(place) / "out")]
            start = time.perf_counter()
            process = subprocess.Popen([*command, *others], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            if status:
                sys.exit(f"annotate ended with {os.waitstatus_to_exitcode(status)}")
            print(f"{count:7,} images: {usage.ru_maxrss / 1024:6.0f} MiB, {1000 * seconds / count:6.1f} ms an image")


if __name__ == "__main__":
    main()
