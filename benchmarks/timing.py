"""Times several ways in turn, so that a machine that slows down slows all."""

import statistics
import time
from collections.abc import Callable, Mapping


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
