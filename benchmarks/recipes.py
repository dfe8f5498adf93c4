"""What each recipe costs: parameters, annotate's images per second, time and memory of a training step, and of it the
backbone's share.

    python benchmarks/recipes.py [RECIPE ...] [--device cuda] [--precision bf16] [--largest-batch]

The real `annotate` (JSON only) and `train` run on photographs of noise, 640 x 480, with captions of 6 to 16 words; the
frozen parts are random, which costs the same as published ones. Each recipe runs in a process of its own, so that the
peak memory (resident, or of the GPU) is its own. The backbone's share is the time of its forward alone.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch.optim.optimizer import register_optimizer_step_post_hook

from groundcli.annotation import AnnotateOptions
from groundcli.annotation.run import annotate
from groundcli.annotation.work import default_workers
from groundcli.data import Sample, find
from groundcli.devices import TorchRuntime
from groundcli.grounder import Grounder
from groundcli.model.visual import Backbone
from groundcli.recipe import RECIPES, Recipe, load_recipe
from groundcli.training import TrainOptions
from groundcli.training.loop import train
from groundcli.weights.load import new_model

SENTENCE = "a man in red shirt rides brown horse along the sandy beach while two dogs run behind him"


def write_photographs(to: Path, count: int) -> list[Sample]:
    draw = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(draw.integers(0, 256, (480, 640, 3), dtype=np.uint8)).save(to / f"{i:04}.jpg")
        start, length = int(draw.integers(4)), int(draw.integers(6, 17))
        caption = " ".join([*itertools.islice(itertools.cycle(SENTENCE.split()), start, start + length), f"number{i}"])
        (to / f"{i:04}.txt").write_text(caption + "\n")
    return list(find.load([to]).samples)


class BackboneClock:
    """Seconds that backbones spend in their forward, of all threads together."""

    def __init__(self, device: torch.device):
        self.device, self.seconds = device, 0.0
        self.mine, self.alone = threading.local(), threading.Lock()
        torch.nn.modules.module.register_module_forward_pre_hook(self._start)
        torch.nn.modules.module.register_module_forward_hook(self._stop)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _start(self, module: torch.nn.Module, _: object) -> None:
        if isinstance(module, Backbone):
            self.mine.started = self.now()

    def _stop(self, module: torch.nn.Module, *_: object) -> None:
        if isinstance(module, Backbone):
            with self.alone:
                self.seconds += self.now() - self.mine.started


def parameters(recipe: Recipe) -> dict[str, float]:
    model, _ = new_model(recipe.model, 0)
    millions = {"backbone": model.backbone, "text": model.text}
    figures = {f"{name}_millions": sum(p.numel() for p in part.parameters()) / 1e6 for name, part in millions.items()}
    return figures | {"trained_millions": sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6}


def measure_annotate(recipe: Recipe, samples: list[Sample], options: argparse.Namespace, out: Path) -> dict[str, float]:
    device = torch.device(options.device)
    grounder = Grounder(TorchRuntime(new_model(recipe.model, 0)[0], device, options.precision))
    photographs = samples[0].image.parent

    def run(limit: int | None) -> None:
        about = {"images": photographs, "out": out, "on_existing": "overwrite", "overlays": False, "report": False}
        annotate(AnnotateOptions.make(**about, limit=limit), grounder=grounder)

    run(8)  # warms up
    clock = BackboneClock(device)
    start = clock.now()
    run(None)
    seconds = clock.now() - start
    at_a_time = default_workers(len(samples), True) if device.type == "cpu" else 1
    return {
        "annotate_images_per_s": len(samples) / seconds,
        "annotate_backbone_share": clock.seconds / seconds / at_a_time,
    }


def measure_train(name: str, samples: list[Sample], options: argparse.Namespace, out: Path) -> dict[str, float]:
    clock = BackboneClock(torch.device(options.device))
    stamps: list[tuple[float, float]] = []
    register_optimizer_step_post_hook(lambda *_: stamps.append((clock.now(), clock.seconds)))
    settings = {"epochs": 1, "batch_size": options.batch_size, "cache_features": "false"}
    about = TrainOptions.make(
        dataset="folder",
        data=samples[0].image.parent,
        out=out,
        recipe=name,
        settings=[f"training.{key}={value}" for key, value in settings.items()],
        device=options.device,
        precision=options.precision,
        untrained=True,
    )
    train(about, Console(quiet=True))
    steps = [(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(stamps)]
    figures = {"step_s": statistics.median(s for s, _ in steps)}
    figures["step_backbone_share"] = statistics.median(backbone / s for s, backbone in steps)
    if clock.device.type == "cuda":
        return figures | {"step_peak_gib": torch.cuda.max_memory_allocated() / 2**30}
    return figures | {"step_peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def one(name: str, what: str, options: argparse.Namespace) -> dict[str, float]:
    recipe = load_recipe(name)
    with tempfile.TemporaryDirectory() as place:
        photographs, out = Path(place) / "photographs", Path(place) / "out"
        photographs.mkdir()
        if what == "parameters":
            return parameters(recipe)
        if what == "annotate":
            return measure_annotate(recipe, write_photographs(photographs, options.images), options, out)
        return measure_train(name, write_photographs(photographs, 4 * options.batch_size), options, out)


def in_a_process(name: str, what: str, options: argparse.Namespace, batch_size: int) -> dict[str, float] | None:
    """None where it didn't fit into memory."""
    command = [sys.executable, "-W", "ignore", __file__, name, "--what", what, "--batch-size", str(batch_size)]
    command += ["--device", options.device, "--precision", options.precision, "--images", str(options.images)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        if "OutOfMemoryError" in done.stderr:
            return None
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(path.stem for path in RECIPES.glob("*.toml"))
    parser.add_argument("recipes", nargs="*", default=names, metavar="RECIPE", help=f"of {', '.join(names)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bf16"])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--images", type=int, default=64, help="photographs that annotate is timed on")
    parser.add_argument("--largest-batch", action="store_true", help="double the batch until it doesn't fit a GPU")
    parser.add_argument("--what", choices=["parameters", "annotate", "train"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what:
        print(json.dumps(one(options.recipes[0], options.what, options)))
        return
    print(f"{options.device}, {options.precision}, {torch.get_num_threads()} threads, batch {options.batch_size}")
    for name in options.recipes:
        figures: dict[str, float] = {}
        for what in ("parameters", "annotate", "train"):
            figures |= in_a_process(name, what, options, options.batch_size) or {}
        size = options.batch_size
        while options.largest_batch and in_a_process(name, "train", options, 2 * size):
            size *= 2
            figures["largest_batch"] = size
        print(name, " ".join(f"{key}={value:.4g}" for key, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
