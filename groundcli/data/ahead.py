"""Work done a little before it is needed."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], count: int, threads: int = 1) -> Iterator[R]:
    """Results in order, worked out by other threads at most `count` items early: memory stays bounded."""
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(lambda item: pool.submit(work, item), items, count)


def in_order(submit: "Callable[[T], Future[R]]", items: Iterable[T], count: int) -> Iterator[R]:
    """Results in order, at most `count` of them worked on or waiting: memory stays bounded."""
    source = iter(items)
    waiting = collections.deque(submit(item) for item in islice(source, count))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(submit(item) for item in islice(source, 1))
        yield result
