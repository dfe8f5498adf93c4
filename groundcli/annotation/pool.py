"""Worker processes, or a thread where there are none."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R", covariant=True)


class Waitable(Protocol[R]):
    """A future, or several of them."""

    def result(self) -> R:
        """Waits for it."""


def pool(workers: int) -> Executor:
    """Processes that share no state with this one; 0 workers are a single thread of this process."""
    if not workers:
        return ThreadPoolExecutor(1)
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads, and no GPU
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)


def default_workers(images: int) -> int:
    """Processes start slowly: a few images have none; else every core has one, but for the first, up to 8."""
    return min(8, (os.cpu_count() or 1) - 1) if images >= 100 else 0


def _begin() -> None:
    """Signals are for the main process to act on; without a main process there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to the whole group, as schedulers do
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def in_order(submit: Callable[[T], Waitable[R]], items: Iterable[T], count: int) -> Iterator[R]:
    """Results in order, at most `count` of them worked on or waiting: memory stays bounded."""
    source = iter(items)
    waiting = deque(submit(item) for item in islice(source, count))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(submit(item) for item in islice(source, 1))
        yield result
