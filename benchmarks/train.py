"""How long training waits for data, and what a cache of the frozen backbone's features saves, on a folder of images.

    python benchmarks/train.py FOLDER [--recipe lite] [--batch-size 32] [--epochs 3] [--device cuda] [--limit N]

The real `train`, without validation, once with the backbone in every epoch, and once with its features kept on disk.
Printed are milliseconds per image of the last epoch's steps, the share of them that was spent waiting for data, and how
long all else took: loading weights, making the cache. Captions don't matter for that: every image gets the same ones.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from groundcli.data import find
from groundcli.training import TrainOptions
from groundcli.training.loop import train

PHRASES = ["a man in red shirt rides a brown horse", "two dogs run along the sandy beach"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="lite")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, default=None, help="the first so many images only")
    options = parser.parse_args()
    found = find.load([options.folder], phrases=PHRASES, limit=options.limit).samples
    print(f"{len(found)} images, {torch.get_num_threads()} threads, batches of {options.batch_size}")
    last = {}
    for cached in (False, True):
        how = {"epochs": options.epochs, "batch_size": options.batch_size, "cache_features": str(cached).lower()}
        with tempfile.TemporaryDirectory() as place:
            photographs, out = Path(place) / "photographs", Path(place) / "out"
            photographs.mkdir()
            for i, sample in enumerate(found):
                (photographs / f"{i:06}{sample.image.suffix}").symlink_to(sample.image.absolute())
                (photographs / f"{i:06}.txt").write_text("".join(f"{phrase}\n" for phrase in PHRASES), "utf-8")
            about = TrainOptions.make(
                dataset="folder",
                data=photographs,
                out=out,
                recipe=options.recipe,
                settings=[f"training.{key}={value}" for key, value in how.items()],
                device=options.device,
            )
            start = time.perf_counter()
            train(about, Console(quiet=True))
            total = time.perf_counter() - start
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "lr" in line]
        final = [line for line in steps if line["epoch"] == options.epochs]
        last[cached] = sum(line["seconds"] for line in final)
        image = 1000 * last[cached] / (len(final) * options.batch_size)
        waited = sum(line["waited"] for line in final) / last[cached]
        rest = total - sum(line["seconds"] for line in steps)
        name = "features kept" if cached else "backbone in every epoch"
        print(f"{image:8.2f} ms per image, data wait {waited:.1%}, all else {rest:.1f} s: {name}", flush=True)
    print(f"{last[False] / last[True]:.1f} x: speed-up of an epoch by the cache")


if __name__ == "__main__":
    main()
