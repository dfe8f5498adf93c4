"""Work done a little before it is needed."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], count: int, threads: int = 1) -> Iterator[R]:
    """Results in order, worked out by other threads at most `count` items early: memory stays bounded."""
    source = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting = collections.deque(pool.submit(work, item) for item in islice(source, count))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(source, 1))
            yield result
