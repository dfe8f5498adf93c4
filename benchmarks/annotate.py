"""Where annotate's time goes, image by image: seconds of each stage over a folder, and the CNN's share.

python benchmarks/annotate.py FOLDER [WEIGHTS]
"""

import sys
import time
from collections import Counter
from pathlib import Path

import torch

from groundcli import Grounder
from groundcli.data import folder
from groundcli.data.images import decode
from groundcli.grounding.grounder import resize_image
from groundcli.output.overlays import draw


def main() -> None:
    samples, _, _ = folder.load([Path(sys.argv[1])])
    grounder = Grounder.load(sys.argv[2] if len(sys.argv) > 2 else "lite")
    grounder.ground(samples[0].image, samples[0].captions[0])  # loads spaCy, warms up
    seconds: Counter[str] = Counter()

    def timed(name: str, work, *arguments):
        start = time.perf_counter()
        result = work(*arguments)
        seconds[name] += time.perf_counter() - start
        return result

    side = grounder.model.config.visual.image_size
    for sample in samples:
        image = timed("decode", decode, sample.image)
        pixels = timed("resize", resize_image, image, side)
        timed("CNN forward (again, alone)", grounder.model.backbone, pixels.to(grounder.device))
        encoded = timed("encode: resize, CNN, mapping", grounder.encode, image)
        captions = timed("find phrases", grounder.finder.find, sample.captions, "auto")
        answers = timed("ground", grounder.ground_captions, encoded, captions)
        timed("overlay", draw, image, answers)
    print(f"{len(samples)} images, {torch.get_num_threads()} threads; milliseconds an image")
    for name, total in seconds.items():
        print(f"{1000 * total / len(samples):8.1f}  {name}")


if __name__ == "__main__":
    main()
