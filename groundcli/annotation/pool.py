"""Worker processes, or this process itself where there are none."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any


def pool(workers: int) -> Executor:
    """Processes that share no state with this one; with 0 workers, work is done when it is handed over."""
    if not workers:
        return _AtOnce()
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads, and no GPU
    return ProcessPoolExecutor(workers, mp_context=context, initializer=live_with_parent)


def default_workers(images: int, models: int, gpu: bool) -> int:
    """For each of several models. On CPUs none, as the model wants every core itself, nor for the few images that are
    done before a process has started; beside a GPU a core each, up to 8."""
    return min(8, max(1, (os.cpu_count() or 1) // models)) if gpu and images >= 100 else 0


class _AtOnce(Executor):
    """No thread of its own: one that runs Python holds up the model's at every step, as both want the GIL."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def live_with_parent() -> None:
    """For a process to begin with: signals are for its parent to act on; without the parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to the whole group, as schedulers do
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
