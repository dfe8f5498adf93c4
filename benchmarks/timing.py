"""Times several ways in turn, so that a machine that slows down slows all."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from groundcli.devices import TorchRuntime
from groundcli.grounder import Runtime
from groundcli.parallel import cores, lanes

SIDE = 1024  # of the matrices that the peak is measured by


def print_in_turn(forms: Mapping[str, Callable[[], None]], repeats: int, images: int, about: str) -> None:
    """Prints each form's median in milliseconds an image, and the median of its ratios to the first form.

    Args:
        forms: what to time, by names.
        repeats: how many times each.
        images: that a form works on.
        about: what else the figures depend on.
    """
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, form in forms.items():
            start = time.perf_counter()
            form()
            seconds[name].append(time.perf_counter() - start)
    print(f"{images} images, {about}; milliseconds an image")
    base = next(iter(seconds.values()))
    for name, times in seconds.items():
        ratio = statistics.median(own / first for own, first in zip(times, base, strict=True))
        print(f"{1000 * statistics.median(times) / images:8.1f}  {ratio:5.2f} x  {name}")


def look_at(pixels: Sequence[np.ndarray], runtime: Runtime, batch: int) -> None:
    """The CNN alone, by torch; an export has the mappings in it. With a core for each image, on a GPU in batches."""
    look: Callable[[Sequence[np.ndarray]], Any] = getattr(runtime, "maps", runtime.cells)
    if runtime.device == "cpu":
        with lanes(cores()) as pool:
            list(pool.map(lambda each: look([each]), pixels))
        return
    for i in range(0, len(pixels), batch):
        look(pixels[i : i + batch])
    torch.cuda.synchronize()


def as_matrix_products(pixels: Sequence[np.ndarray], runtime: TorchRuntime) -> Callable[[], None]:
    """As many FLOP as the CNN takes, in matrix products with a core each: the least that CPUs could need for it."""
    with FlopCounterMode(display=False) as counter:
        runtime.maps(pixels[:1])
    products = round(counter.get_total_flops() * len(pixels) / (2 * SIDE**3))
    matrix = torch.rand(SIDE, SIDE)

    def multiply() -> None:
        with lanes(cores()) as pool:
            list(pool.map(lambda _: torch.mm(matrix, matrix)[0, 0], range(products)))

    return multiply
