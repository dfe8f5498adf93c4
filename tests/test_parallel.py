import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from groundcli.data import Caption
from groundcli.data.phrases import PhraseFinder
from groundcli.parallel import ahead, in_order, interruptible, lanes, pool

# --- What worker processes do; this module imports no torch at its top.


def can_import_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def noun_phrases(text: str) -> list[str]:
    (caption,) = PhraseFinder().find([Caption(text)], "noun")
    return [phrase.text for phrase in caption.phrases]


def signalled() -> int:
    """Sends itself what a terminal and a scheduler send; whoever ignores it goes on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    return os.getpid()


# --- In order


def test_results_come_in_order_whoever_is_done_first() -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    assert [*ahead(work, range(30), 6, threads=4)] == [*range(30)]
    assert [*ahead(work, [], 6)] == []


def test_no_more_is_begun_than_may_wait() -> None:
    begun: list[int] = []

    def submit(number: int) -> "Future[int]":
        begun.append(number)
        future: Future[int] = Future()
        future.set_result(number)
        return future

    results = in_order(submit, iter(range(100)), 5)
    assert next(results) == 0
    for result in range(1, 90):
        assert len(begun) == result + 5  # five wait while the one before is used
        assert next(results) == result
    assert [*results] == [*range(90, 100)]
    assert begun == [*range(100)]


def test_endless_items_are_read_as_they_are_needed() -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        while True:
            read.append(len(read))
            yield len(read)

    results = ahead(str, numbers(), 3)
    assert [next(results) for _ in range(4)] == ["1", "2", "3", "4"]
    assert len(read) == 7
    results.close()


def test_an_error_comes_in_its_place() -> None:
    results = ahead(lambda number: 1 / number, [2, 1, 0, 4], 4)
    assert [next(results), next(results)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


# --- Threads and processes


def test_each_lane_has_one_thread_of_torch() -> None:
    import torch

    before = torch.get_num_threads()
    meet = threading.Barrier(3, timeout=20)

    def threads(_: int) -> int:
        meet.wait()  # so that each lane does one
        return torch.get_num_threads()

    with lanes(3) as executor:
        assert [*executor.map(threads, range(3))] == [1, 1, 1]
    assert torch.get_num_threads() == before


def test_what_a_lane_has_not_begun_is_dropped() -> None:
    done: list[int] = []
    begun, may_end = threading.Event(), threading.Event()

    def work(number: int) -> None:
        begun.set()
        may_end.wait(20)
        done.append(number)

    with lanes(1) as executor:
        futures = [executor.submit(work, number) for number in range(5)]
        begun.wait(20)
        threading.Timer(0.1, may_end.set).start()
    assert done == [0]
    assert [future.cancelled() for future in futures] == [False, True, True, True, True]


@pytest.mark.slow
def test_worker_processes_have_no_torch_and_outlive_signals() -> None:
    with pool(1) as executor:
        assert isinstance(executor, ProcessPoolExecutor)
        assert not executor.submit(can_import_torch).result()
        assert executor.submit(noun_phrases, "A man rides a brown horse.").result() == ["A man", "a brown horse"]
        worker = executor.submit(signalled).result()
        assert worker == executor.submit(os.getpid).result() != os.getpid()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs groups of processes")
@pytest.mark.parametrize("wait", [0.0, 0.1, 0.3, 1.0])
def test_ctrl_c_while_workers_start_is_their_parents(wait: float) -> None:
    """A terminal sends it to all of them; they go on, and say nothing."""
    script = """if True:
        import os, time
        from groundcli.parallel import interruptible, pool
        with interruptible() as stopped, pool(2) as executor:
            futures = [executor.submit(os.path.basename, f"a/{i}") for i in range(8)]
            print("started", flush=True)
            print([future.result() for future in futures])
            while not stopped():
                time.sleep(0.01)
    """
    command, pipe = [sys.executable, "-c", script], subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=600)
    assert (stderr, process.returncode) == ("", 0)
    assert stdout == "['0', '1', '2', '3', '4', '5', '6', '7']\n"


def test_no_workers_are_threads_of_this_process() -> None:
    meet = threading.Barrier(2, timeout=20)
    with pool(0) as executor:
        assert len({*executor.map(lambda _: (meet.wait(), threading.get_ident())[1], range(2))}) == 2
        assert executor.submit(os.getpid).result() == os.getpid()


# --- How to stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_stops(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruptible() as stopped:
        assert not stopped()
        os.kill(os.getpid(), number)
        assert stopped()
        second = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        assert signal.getsignal(number) is second
    assert signal.getsignal(number) is before


def test_the_second_ctrl_c_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible():
        [signal.raise_signal(signal.SIGINT) for _ in range(2)]
    assert signal.getsignal(signal.SIGINT) is before
