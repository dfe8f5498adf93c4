import os
import subprocess
import sys
from collections.abc import Callable

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def groundcli() -> Run:
    """Runs the real command line in a process of its own."""

    def run(*arguments: object, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "groundcli", *map(str, arguments)]
        environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert code in (None, done.returncode), done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run
