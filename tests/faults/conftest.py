"""How much is tried: `GROUNDCLI_CASES=N` is N times as much, see `make faults`."""

import os

import pytest

CASES = int(os.environ.get("GROUNDCLI_CASES", "1"))


@pytest.fixture(scope="session")
def cases() -> int:
    """How many times as much as usual is tried."""
    return CASES
