"""Files that are whole whenever somebody looks, folders for one process alone, and hashes."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from threading import get_native_id
from typing import IO, Any

from filelock import FileLock, Timeout

from groundcli.errors import UsageError

LOCK = ".lock"
LONGEST_NAME = 255  # bytes, on nearly every file system


def now() -> str:
    """The date and time at which something was made, as files say it: ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@contextmanager
def replacing(path: Path, mode: str = "w", shared: bool = False) -> Iterator[IO[Any]]:
    """A file that takes the place of another once it is whole, so that no reader ever meets half of it.

    What was there is never written into: a hard link to it elsewhere keeps its content.

    Args:
        path: the file; its folder has to be there.
        mode: "w" for text (UTF-8, "\\n"), "wb" for bytes.
        shared: whether others may write the same file at the same time, who would all write the same.

    Raises:
        OSError: the file can't be written.
    """
    partial = partial_of(path, f"{os.getpid()} {get_native_id()}" if shared else "")
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with partial.open(mode, **text) as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def partial_of(path: Path, writer: str = "") -> Path:
    """Where a file is written until it is whole: a short name, as the file's own may be as long as names can be."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name + writer)).hexdigest()[:16]}.partial")


def beside(name: str, suffix: str) -> str:
    """The path of an image's file in a folder of such files: the image's own, with a suffix. One to one.

    A folder that is called as such a file may be has a "+" after it; a name that would be too long ends in a hash.
    """
    *folders, base = name.split("/")
    folders = [f"{folder}+" if folder.rstrip("+").lower().endswith(suffix) else folder for folder in folders]
    if len(raw := os.fsencode(base + suffix)) > LONGEST_NAME:
        base = f"{raw[:200].decode(errors='ignore')}~{hashlib.sha256(raw).hexdigest()[:16]}"
    return "/".join([*folders, base + suffix])


def is_partial(name: str) -> bool:
    """Whether a file's name is of `partial_of`: what a killed process leaves."""
    return re.fullmatch(r"\.[0-9a-f]{16}\.partial", name) is not None


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """A small file for people and programs, whole or not at all. Raises OSError."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2, default=str) + "\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A folder for this process alone; the lock is gone at the end. Raises UsageError where another is at work there.

    The lock is removed while it is held: who opened it before sees that it has no name any more, and begins anew.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{folder}: another groundcli is at work there; wait for it or name another folder") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def sha256(path: Path) -> str:
    """Hash of a file. Raises OSError."""
    with path.open("rb") as file:
        if hasattr(hashlib, "file_digest"):
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()  # Python 3.10
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def megabytes(path: Path) -> float:
    """Size of a file or of all files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) / 1e6
