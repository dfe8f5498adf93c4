"""Work done by others ahead of time, in order: threads and processes; and how to stop it."""

import collections
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, TypeVar

from groundcli.errors import Interrupted

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], count: int, threads: int = 1) -> Iterator[R]:
    """Results in order, worked out by other threads at most `count` items early: memory stays bounded."""
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(lambda item: pool.submit(work, item), items, count)


def in_order(submit: Callable[[T], Future[R]], items: Iterable[T], count: int) -> Iterator[R]:
    """Results in order, at most `count` of them worked on or waiting: memory stays bounded."""
    source = iter(items)
    waiting = collections.deque(submit(item) for item in islice(source, count))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(submit(item) for item in islice(source, 1))
        yield result


_mine = threading.local()


def cores() -> int:
    """How many cores this process may use: as `OMP_NUM_THREADS` says, else all that the system gives it."""
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if told.isdecimal() and int(told):
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """How many threads a computation had best take here: one in a lane, else one per core."""
    return 1 if getattr(_mine, "is_lane", False) else cores()


@contextmanager
def lanes(count: int) -> Iterator[Executor]:
    """Threads in which a computation has one thread each; what they haven't begun at the end is dropped.

    Several images, a thread each, take less time than one after the other in all threads together: no core waits for
    another inside a layer.
    """
    torch: Any = sys.modules.get("torch")  # if nobody has imported it, nobody computes with it
    before = torch and torch.get_num_threads()

    def begin() -> None:
        _mine.is_lane = True
        if torch:
            torch.set_num_threads(1)

    executor = ThreadPoolExecutor(count, initializer=begin)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)
        if torch:
            torch.set_num_threads(before)  # for threads to come it holds in the whole process


@contextmanager
def pool(workers: int) -> Iterator[Executor]:
    """Processes that share no state with this one and never import torch; with 0 workers, two threads, as pictures are
    worked on outside the GIL for the most part. What they haven't begun at the end is dropped."""
    executor: Executor
    if workers:
        executor = ProcessPoolExecutor(workers, mp_context=Deaf(), initializer=_begin_worker)
    else:
        executor = ThreadPoolExecutor(2)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


class DeafProcess(SpawnProcess):
    """A process that hears no Ctrl-C and no SIGTERM, from its first moment on: its parent acts on them.

    Until it has imported what it runs it could only print a traceback. So its parent blocks both while it starts it,
    and it inherits that.
    """

    def start(self) -> None:
        """As of any process."""
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            return super().start()
        resource_tracker.ensure_running()  # which starts with the first process, and then unblocks both
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Deaf(SpawnContext):
    """Makes such processes. They are not forked: that would copy the locks of torch's threads, and no GPU."""

    Process = DeafProcess


def _begin_worker() -> None:
    # spaCy would import torch where it is installed: seconds per worker. So imports of it fail there.
    sys.modules["torch"] = None  # type: ignore[assignment]
    live_with_parent()


def live_with_parent() -> None:
    """For a process to begin with: signals are for its parent to act on; without the parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to the whole group, as schedulers do

    def end_with(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if parent := parent_process():
        threading.Thread(target=end_with, args=(parent,), daemon=True).start()


Stopped = Callable[[], bool]  # whether somebody asked to stop
_asked = threading.Event()  # that: signals are the process's, so this is, too


@contextmanager
def interruptible() -> Iterator[Stopped]:
    """The first Ctrl-C or SIGTERM is only noted, to stop where nothing is lost; the second stops at once."""
    _asked.clear()

    def note(number: int, _: FrameType | None) -> None:
        _asked.set()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield _asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def stop_if_asked() -> None:
    """For what takes long, in whatever thread. Raises Interrupted once somebody asked to stop (`interruptible`)."""
    if _asked.is_set():
        raise Interrupted("interrupted")
