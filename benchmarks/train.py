"""What training costs on a CPU: time of a step beside its bare matrix products, and the largest batch that fits memory.

    python benchmarks/train.py [--recipe lite] [--batch-size N] [--steps 3] [--repeats 3] [--memory GB]

The real `train`, on photographs of noise with captions of 12 words, among which are as many different ones as among
Flickr30k's. In turn, and printed as medians over all steps, in seconds per step and milliseconds per photograph:

- a step with the backbone's feature maps kept on disk, and one with the backbone run anew in every epoch;
- the matrix products that the first one asks torch for, forward and backward, of the same sizes, and nothing else;
- a step while stages of the backbone are tuned, from the kept maps before them, where the recipe tunes any.

With `--memory`, batches are doubled, each in a process of its own, until one takes more than so many GB (1e9 bytes) at
the peak of its resident memory, which is all that training needs by then: kept maps, optimizer, gradients.
"""

import argparse
import contextlib
import itertools
import json
import math
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from groundcli.recipe import load_recipe
from groundcli.training import TrainOptions
from groundcli.training.loop import train

PICTURES = 16  # that differ: features of equal files are computed once
WORDS, VOCABULARY, ZIPF = 12, 3000, 1.1  # per caption; with these, 128 captions have some 450 different ones
PRODUCTS = {getattr(torch.ops.aten, name) for name in ("mm", "addmm", "bmm", "baddbmm")}


def write_pairs(to: Path, count: int) -> None:
    draw = np.random.default_rng(0)
    pictures = to.with_name("pictures")
    pictures.mkdir()
    to.mkdir()
    for i in range(PICTURES):
        Image.fromarray(draw.integers(0, 256, (375, 500, 3), dtype=np.uint8)).save(pictures / f"{i}.jpg")
    share = 1 / np.arange(1, VOCABULARY + 1) ** ZIPF
    for i, words in enumerate(draw.choice(VOCABULARY, (count, WORDS), p=share / share.sum())):
        (to / f"{i:06}.jpg").symlink_to(pictures / f"{i % PICTURES}.jpg")
        (to / f"{i:06}.txt").write_text(" ".join(f"word{word}" for word in words) + "\n")


class Enough(Exception):
    pass


def ends_of_steps(
    options: argparse.Namespace, place: Path, count: int, cached: bool = True, each: Callable[[], None] = lambda: None
) -> list[float]:
    """When each of the first `count` steps of the real `train` ended; `each` is called then.

    An epoch has `options.steps` + 1 steps, on the pairs in `place`; the second epoch is one of tuning, where the recipe
    tunes anything.
    """
    ends: list[float] = []

    def note(*_: object) -> None:
        each()
        ends.append(time.perf_counter())
        if len(ends) == count:
            raise Enough

    tuned = bool(load_recipe(options.recipe).model.visual.tuned)
    settings = {"epochs": 1, "batch_size": options.batch_size, "cache_features": json.dumps(cached)}
    settings |= {"tuning.epochs": 1} if tuned and cached else {"tuning.epochs": 0}
    with tempfile.TemporaryDirectory() as out:
        about = TrainOptions.make(
            dataset="folder",
            data=place / "pairs",
            out=Path(out) / "run",
            recipe=options.recipe,
            cache_features=place / "cache" if cached else None,
            settings=[f"training.{key}={value}" for key, value in settings.items()],
            device="cpu",
        )
        hook = register_optimizer_step_post_hook(note)
        with contextlib.suppress(Enough):
            train(about, Console(quiet=True))
        hook.remove()
    return ends


class Products(TorchDispatchMode):
    """Notes the matrix products that torch is asked for: of the last whole step that `end_step` told of."""

    def __init__(self) -> None:
        super().__init__()
        self.step: list[tuple[Any, Any]] = []
        self.under_way: list[tuple[Any, Any]] = []

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if call.overloadpacket in PRODUCTS:
            shapes = tree_map_only(Tensor, lambda t: (tuple(t.shape), t.stride()), args)
            self.under_way.append((call, shapes))
        return call(*args, **(kwargs or {}))

    def end_step(self) -> None:
        self.step, self.under_way = self.under_way, []


def seconds_of(products: list[tuple[Any, Any]]) -> float:
    """Of products alone, on random numbers that lie in memory as those of the step did."""
    total = 0.0
    for call, shapes in products:
        factors = [_random(*shape) for shape in shapes]
        start = time.perf_counter()
        call(*factors)
        total += time.perf_counter() - start
    return total


def _random(shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    extent = 1 + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    return torch.rand(extent).as_strided(shape, strides)


def peak(options: argparse.Namespace, tuned: bool) -> None:
    """Prints the peak of this process's resident memory, in GB, after two steps; of tuning, after an epoch without."""
    with tempfile.TemporaryDirectory() as place:
        write_pairs(Path(place) / "pairs", 2 * options.batch_size)
        ends_of_steps(options, Path(place), 4 if tuned else 2)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def print_largest_batch(options: argparse.Namespace, tuned: bool) -> None:
    fitting, size = "none", options.batch_size
    while True:
        sizes = ["--recipe", options.recipe, "--batch-size", str(size), "--steps", "1"]
        command = [sys.executable, __file__, *sizes, "--peak", "tuned" if tuned else "kept"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in (0, -signal.SIGKILL):  # which is how a system ends what it has no memory for
            sys.exit(done.returncode)
        gb = math.inf if done.returncode else float(done.stdout.splitlines()[-1])
        if gb > options.memory:
            break
        fitting, size = f"{size} ({gb:.1f} GB)", 2 * size
    name = "stages tuned" if tuned else "maps kept"
    print(f"largest batch within {options.memory:g} GB, {name}: {fitting}; {size} take {gb:.1f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="lite")
    parser.add_argument("--batch-size", type=int, help="default: the recipe's")
    parser.add_argument("--steps", type=int, default=3, help="to time of each kind per round")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--memory", type=float, metavar="GB", help="look for the largest batch within so much")
    parser.add_argument("--peak", choices=["kept", "tuned"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    options.batch_size = options.batch_size or recipe.training.batch_size
    if options.peak:
        return peak(options, options.peak == "tuned")
    epoch, tuned = options.steps + 1, bool(recipe.model.visual.tuned)
    print(f"{options.recipe}, batches of {options.batch_size}, {torch.get_num_threads()} threads", flush=True)
    forms: dict[str, list[float]] = {"maps kept": [], "its matrix products alone": [], "backbone in every epoch": []}
    if tuned:
        forms[f"tuning {', '.join(recipe.model.visual.tuned)}"] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_pairs(place / "pairs", epoch * options.batch_size)
        with Products() as products:  # in a run of its own, as it takes time; it keeps the maps for all others
            ends_of_steps(options, place, 2, each=products.end_step)
        for _ in range(options.repeats):
            ends = ends_of_steps(options, place, 2 * epoch if tuned else epoch)
            live = ends_of_steps(options, place, epoch, cached=False)
            bare = [seconds_of(products.step) for _ in range(options.steps)]
            steps = [
                [after - before for before, after in itertools.pairwise(e)] for e in (ends[:epoch], live, ends[epoch:])
            ]
            for seconds, new in zip(forms.values(), (steps[0], bare, steps[1], steps[2]), strict=False):
                seconds += new
    print("s per step  ms per photograph  times maps kept")
    base = statistics.median(forms["maps kept"])
    for name, seconds in forms.items():
        middle = statistics.median(seconds)
        print(f"{middle:10.3f}  {1000 * middle / options.batch_size:17.2f}  {middle / base:15.2f}  {name}", flush=True)
    for stage in (False, True)[: 1 + tuned] if options.memory else ():
        print_largest_batch(options, stage)


if __name__ == "__main__":
    main()
