"""groundcli beside what else finds phrases in photographs: seconds per photograph, peak memory, and start.

    pip install transformers
    python benchmarks/others.py [FOLDER] [--images 3] [--repeats 3]

GroundingDINO, OWLv2 and Florence-2 by their published architectures and image sizes, in float32, with random weights,
which take the same time: no weights are downloaded. Each gets a photograph's file and one caption of three phrases;
OWLv2 takes them as three queries, and Florence-2 writes as many tokens as its answer has, greedily. What reads boxes
off the others' numbers is left out. Each round takes every model once, in a process of its own, so that a machine that
slows down slows all; printed are medians over rounds. Start is from the process's begin to its first answer, its
imports and the reading of its weights included.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

CAPTION = "[a man] in [a red shirt] rides [a brown horse]"
OURS = "groundcli, lite"
DINO = [101, 1037, 2158, 1012, 1037, 2417, 3797, 1012, 1037, 2829, 3586, 1012, 102]  # "a man. a red shirt. a brown ..."
OWL = [[49406, *[320] * words, 49407, *[0] * (14 - words)] for words in (2, 3, 3)]  # 16 tokens per query
TASK = 21  # Florence-2's tokens of "Locate the phrases in the caption: a man in a red shirt rides a brown horse"
ANSWER = 24  # and of three phrases with four places each, the begin and the end
PAD, IMAGE, CELL = 1, 51289, 32  # Florence-2's token of padding and of a piece of the image, and how wide that is


def shortest(size: tuple[int, int], shrink: int) -> tuple[int, int]:
    """GroundingDINO's: the shorter side 800 pixels, the longer one 1333 at most."""
    scale = min(800 / min(size), 1333 / max(size)) / shrink
    return round(scale * size[0]), round(scale * size[1])


def square(side: int) -> Callable[[tuple[int, int], int], tuple[int, int]]:
    return lambda _, shrink: (side // shrink, side // shrink)


def generate(net: Any, pixels: Any) -> None:
    import torch

    pieces = (pixels.shape[-2] // CELL) * (pixels.shape[-1] // CELL) + 1
    told = torch.tensor([[IMAGE] * pieces + [100] * TASK])
    exactly = {"min_new_tokens": ANSWER, "max_new_tokens": ANSWER, "num_beams": 1, "do_sample": False}
    net.generate(input_ids=told, attention_mask=torch.ones_like(told), pixel_values=pixels, **exactly)


def detect(tokens: list[list[int]]) -> Callable[[Any, Any], None]:
    def run(net: Any, pixels: Any) -> None:
        import torch

        told = torch.tensor(tokens)
        net(input_ids=told, attention_mask=(told > 0).long(), pixel_values=pixels)

    return run


class Other(NamedTuple):
    """A model of transformers.

    Attributes:
        net: the name of its class there.
        millions: of parameters, as published.
        config: what differs from the class's defaults, by how much images are shrunk.
        size: of the image that it looks at, by the photograph's (width, height).
        run: from pixels (1, 3, H, W) to its answer's numbers.
    """

    net: str
    millions: int
    config: Callable[[int], dict[str, Any]]
    size: Callable[[tuple[int, int], int], tuple[int, int]]
    run: Callable[[Any, Any], None]


BART = {"d_model": 768, "vocab_size": 51290, "max_position_embeddings": 1024, "pad_token_id": PAD}
for half in ("encoder", "decoder"):
    BART |= {f"{half}_layers": 6, f"{half}_attention_heads": 12, f"{half}_ffn_dim": 3072}
OTHERS = {
    "GroundingDINO-tiny": Other(
        "GroundingDinoForObjectDetection",
        172,
        lambda shrink: {"num_queries": 900 // shrink},
        shortest,
        detect([DINO]),
    ),
    "OWLv2-base": Other(
        "Owlv2ForObjectDetection",
        155,
        lambda shrink: {"text_config": {}, "vision_config": {"image_size": 960 // shrink}},
        square(960),
        detect(OWL),
    ),
    "Florence-2-base": Other(
        "Florence2ForConditionalGeneration",
        231,
        lambda _: {"text_config": {"model_type": "bart", **BART}, "vision_config": {"projection_dim": 768}},
        square(768),
        generate,
    ),
}


def make(name: str, shrink: int, folder: Path) -> None:
    """Writes a model with random weights, after a look at how many parameters it has."""
    import transformers

    other = OTHERS[name]
    kind = getattr(transformers, other.net)
    net = kind(kind.config_class(**other.config(shrink)))
    millions = net.num_parameters() / 1e6
    if abs(millions / other.millions - 1) > 0.02:
        sys.exit(f"{name}: {millions:.1f} million parameters, not {other.millions} as published")
    net.save_pretrained(folder)
    print(json.dumps(millions))


def load(name: str, shrink: int, folder: Path) -> Callable[[Path], object]:
    """What takes a photograph's file."""
    if name == OURS:
        from groundcli import Grounder

        grounder = Grounder.load("lite")
        return lambda file: grounder.ground(file, CAPTION)
    import numpy as np
    import torch
    import transformers

    other = OTHERS[name]
    net = getattr(transformers, other.net).from_pretrained(folder).eval()

    def ground(file: Path) -> None:
        picture = Image.open(file).convert("RGB")
        pixels = np.asarray(picture.resize(other.size(picture.size, shrink)), np.float32) / 127.5 - 1
        with torch.inference_mode():
            other.run(net, torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])

    return ground


def one(name: str, shrink: int, folder: Path, files: list[Path]) -> None:
    """Prints a line once the first answer is there; then seconds and CPU seconds per photograph, medians, and MiB."""
    ground = load(name, shrink, folder)
    ground(files[0])
    print(flush=True)
    took = []
    for file in files:
        start, busy = time.perf_counter(), time.process_time()
        ground(file)
        took.append((time.perf_counter() - start, time.process_time() - busy))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps([*map(statistics.median, zip(*took, strict=True)), peak]))


def in_a_process(*arguments: object) -> tuple[float, Any]:
    """Seconds until this script, run anew, prints its first line, and what the last one holds."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    first = process.stdout.readline()
    seconds = time.perf_counter() - start
    lines = (first + process.stdout.read()).splitlines()
    if process.wait():
        sys.exit(process.returncode)
    return seconds, json.loads(lines[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("examples/photos"), help="JPEG files")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shrink", type=int, default=1, help="the others' images by so much, to try this script")
    parser.add_argument("--what", choices=["make", "run"], help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.jpg"))[: options.images]
    if options.what == "make":
        return make(options.name, options.shrink, options.weights)
    if options.what == "run":
        return one(options.name, options.shrink, options.weights, files)
    if not files:
        parser.error(f"{options.folder}: no *.jpg")
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    print(f"{len(files)} photographs, {threads} threads, load {os.getloadavg()[0]:.1f}", flush=True)
    rounds: dict[str, list[list[float]]] = {name: [] for name in (OURS, *OTHERS)}
    millions: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:

        def told(name: str, what: str) -> list[object]:
            same = [options.folder, "--images", options.images, "--shrink", options.shrink]
            return [*same, "--what", what, "--name", name, "--weights", Path(place) / name]

        for name in OTHERS:
            _, millions[name] = in_a_process(*told(name, "make"))
        for _ in range(options.repeats):
            for name, rows in rounds.items():
                start, figures = in_a_process(*told(name, "run"))
                rows.append([*figures, start])
    print("                      millions  s per photograph  CPU s  times groundcli  peak MiB  start s")
    for name, rows in rounds.items():
        seconds, busy, peak, start = map(statistics.median, zip(*rows, strict=True))
        ratio = statistics.median(own[0] / first[0] for own, first in zip(rows, rounds[OURS], strict=True))
        count = f"{millions[name]:.1f}" if name in millions else ""
        print(f"{name:20}  {count:>8}  {seconds:16.3f}  {busy:5.2f}  {ratio:15.1f}  {peak:8,.0f}  {start:7.1f}")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
