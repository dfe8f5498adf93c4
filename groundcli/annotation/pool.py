"""Worker processes, or threads where there are none."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor


def pool(workers: int) -> Executor:
    """Processes that share no state with this one; with 0 workers, two threads, as pictures are worked on outside the
    GIL for the most part."""
    if not workers:
        return ThreadPoolExecutor(2)
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads, and no GPU
    return ProcessPoolExecutor(workers, mp_context=context, initializer=live_with_parent)


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
