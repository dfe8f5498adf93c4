"""Worker processes, or a thread where there are none."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor


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
