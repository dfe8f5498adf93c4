import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from unittest import mock

import pytest

from groundcli.__main__ import main
from groundcli.errors import Interrupted

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """For the command line in this process: it changes who handles them, to the end of its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _checked(done: "subprocess.CompletedProcess[str]", code: int | None) -> "subprocess.CompletedProcess[str]":
    assert code in (None, done.returncode), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="session")
def groundcli() -> Run:
    """Runs the command line in this process; `code` is the exit code that it must have."""

    def run(*arguments: object, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
        command = ["groundcli", *map(str, arguments)]
        stdout, stderr, status = io.StringIO(), io.StringIO(), 0
        with (
            mock.patch.object(sys, "argv", command),
            mock.patch.dict(os.environ, {"COLUMNS": "200", "NO_COLOR": "1"}),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            signals_kept(),
        ):
            try:
                main()
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if status == Interrupted.exit_code != code:
            raise KeyboardInterrupt  # the signal was for the tests: the command is in their process
        return _checked(subprocess.CompletedProcess(command, status, stdout.getvalue(), stderr.getvalue()), code)

    return run


@pytest.fixture(scope="session")
def process() -> Run:
    """Runs the command line in a process of its own: where signals, kills or the environment are at stake."""

    def run(*arguments: object, code: int | None = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "groundcli", *map(str, arguments)]
        variables = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment}
        return _checked(subprocess.run(command, capture_output=True, text=True, env=variables, check=False), code)

    return run


@contextlib.contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file can become larger than so many bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
