import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from groundcli.data.plain_pickle import load
from groundcli.errors import GroundcliError

PLAIN = [
    {"a": [1, -2, 3.5, True, False, None, 2**40, 2**2000], "b": ("x", ()), ("k", 1): {}, "é": "日本", "l": "x" * 300}
]


class _Calls:
    """A pickle of this runs something when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = function, arguments

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "plain.p"
    path.write_bytes(pickle.dumps(PLAIN, protocol))
    assert load(path) == PLAIN


def test_text_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    # pickle.dumps([{'sent': 'caf\xe9', 'n': 7L}], 2) of Python 2.7
    path.write_bytes(b"\x80\x02]q\x00}q\x01(U\x04sentq\x02U\x04caf\xe9q\x03U\x01nq\x04\x8a\x01\x07ua.")
    assert load(path) == [{"sent": "café", "n": 7}]


TOUCH = "import pathlib; pathlib.Path('touched').touch()"


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(_Calls(os.system, "touch touched"), 2),
        pickle.dumps(_Calls(exec, TOUCH), 0),
        pickle.dumps(_Calls(exec, TOUCH), 4),
        pickle.dumps([{"sent": _Calls(eval, f"exec({TOUCH!r})")}], 5),  # deep inside plain data
        pickle.dumps(_Calls(getattr, _Calls(__import__, "os"), "system"), 2),  # a chain of getattr
        b"cos\nsystem\n(S'touch touched'\ntR.",  # GLOBAL, REDUCE
        b"(S'touch touched'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch touched'\no.",  # OBJ
        b"\x8c\x05posix\x8c\x06system\x93\x8c\x0dtouch touched\x85R.",  # STACK_GLOBAL
        b"\x82\x01.",  # EXT1: the extension registry
        b"\x80\x02cbuiltins\nlist\n)\x81.",  # NEWOBJ, of something harmless too
        b"}}b.",  # BUILD
        b"S'1'\nQ.",  # BINPERSID
        pickle.dumps(OrderedDict(a=1), 2),
        pickle.dumps({1, 2}, 4),
    ],
)
def test_anything_else_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.p"
    path.write_bytes(content)
    with pytest.raises(GroundcliError, match=r"evil\.p: refused \(it holds more than plain data"):
        load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["evil.p"]


def test_the_malice_is_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(_Calls(exec, TOUCH), 2))
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]r" + struct.pack("<I", 2**31 - 1) + b".",  # a memo of 2**31 entries: 16 GB
        b"\x80\x02]p2147483647\n.",
        b"\x8d" + struct.pack("<Q", 2**40) + b"x.",  # a text of 2**40 bytes
        b"X" + struct.pack("<I", 2**31) + b"x.",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",  # a number of 2**31 bytes
        b"\x96" + struct.pack("<Q", 2**40) + b"x.",  # a bytearray
        b"I" + b"9" * 100_000 + b"\n.",
        b"",
        b"not a pickle",
        pickle.dumps(PLAIN, 2)[:-20],
        b"}]K\x01s.",  # a list as a key
    ],
)
def test_damaged_files_and_bombs_cost_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.p"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(GroundcliError) as error:
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert "bad.p: refused (" in str(error.value)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(GroundcliError, match="can't be read"):
        load(tmp_path)
