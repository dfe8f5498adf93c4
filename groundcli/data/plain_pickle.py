"""Pickles of plain data from people we don't know: nothing in them is ever run."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from groundcli.errors import GroundcliError, first_line

# Opcodes of dicts, lists, tuples, text, numbers, None and of keeping what was read; none imports, calls or builds.
PLAIN = frozenset(
    {"PROTO", "FRAME", "STOP", "MARK", "POP", "NONE", "NEWTRUE", "NEWFALSE"}
    | {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"}
    | {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
    | {"GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
)
MEMO = frozenset({"PUT", "LONG_BINPUT"})


class _PlainUnpickler(pickle.Unpickler):
    """Imports nothing, should an opcode ever slip through."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load(path: Path) -> Any:
    """What a pickle holds: dict, list, tuple, str, int, float, bool and None.

    Text that Python 2 wrote is read as Latin-1. The opcodes are looked through before anything is built, so a file
    can't run code, nor take more memory than in proportion to its own size. (One whose keys are tuples nested without
    end can still stall or crash Python, as it could anywhere.)

    Raises:
        GroundcliError: it can't be read, is damaged, or holds anything but plain data.
    """
    try:
        data = path.read_bytes()
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name not in PLAIN:
                raise pickle.UnpicklingError(f"it holds more than plain data, {opcode.name}")
            # A memo's index is the size of a table; no honest pickle keeps more things than it has bytes.
            if opcode.name in MEMO and int(argument or 0) > len(data):
                raise pickle.UnpicklingError(f"it keeps its {argument}th thing in {len(data)} bytes")
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except OSError as error:
        raise GroundcliError(f"{path}: can't be read ({error.strerror}); check its permissions") from None
    except Exception as error:  # a broken pickle makes Python raise nearly anything
        raise GroundcliError(f"{path}: refused ({first_line(error)}); fetch it from where it is published") from None
