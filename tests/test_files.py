import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from groundcli.errors import UsageError
from groundcli.files import LOCK, beside, is_partial, locked, megabytes, partial_of, replacing, sha256, write_json

HOLD = """
import sys, time
from pathlib import Path
from groundcli.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
print("released", flush=True)
"""
TAKE = """
import os, sys, time
from contextlib import suppress
from pathlib import Path
from groundcli.errors import UsageError
from groundcli.files import locked
folder, marker = map(Path, sys.argv[1:])
taken, end = 0, time.monotonic() + 1
while time.monotonic() < end:
    with suppress(UsageError), locked(folder):
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))  # fails where another holder is at work
        taken += 1
        marker.unlink()
print(taken)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- Files that are whole or not there


def test_a_file_is_there_once_it_is_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as file:
        file.write("ein Bär\n")
        file.flush()
        assert not (tmp_path / "a.txt").exists()
        assert [is_partial(name) for name in contents(tmp_path)] == [True]
    assert contents(tmp_path) == {"a.txt": "ein Bär\n".encode()}  # UTF-8, and "\n" on every system


def test_bytes_stay_as_they_are(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.bin", "wb") as file:
        file.write(b"\r\n\xff")
    assert contents(tmp_path) == {"a.bin": b"\r\n\xff"}


def test_what_was_there_stays_where_the_new_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("older")
    with pytest.raises(TypeError), replacing(tmp_path / "a.txt") as file:
        file.writelines(["half", 1])
    assert contents(tmp_path) == {"a.txt": b"older"}
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "no folder" / "a.txt"):
        pass


def test_a_link_elsewhere_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("older")
    os.link(tmp_path / "a.txt", tmp_path / "b.txt")
    with replacing(tmp_path / "a.txt") as file:
        file.write("newer")
    assert contents(tmp_path) == {"a.txt": b"newer", "b.txt": b"older"}


def test_names_may_be_as_long_as_they_can_be(tmp_path: Path) -> None:
    names = [f"{letter}{'x' * 250}.txt" for letter in "ab"] + [f"{'ü' * 126}.x"]
    for name in names:
        assert len(os.fsencode(name)) in (254, 255)
        with replacing(tmp_path / name) as file:
            file.write(name)
    assert contents(tmp_path) == {name: name.encode() for name in names}
    partials = {partial_of(tmp_path / name).name for name in names}
    assert len(partials) == 3  # files that are written side by side don't meet
    assert all(is_partial(name) for name in partials)


@pytest.mark.skipif(os.name != "posix", reason="names that Windows doesn't allow")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"latin-\xfc.txt")
    write_json(path, [1])
    assert [os.fsencode(name) for name in contents(tmp_path)] == [b"latin-\xfc.txt"]


@pytest.mark.parametrize(
    "name", ["a.partial", ".0123456789abcdef.partial.txt", "x.0123456789abcdef.partial", ".partial"]
)
def test_other_names_are_no_partial_files(name: str) -> None:
    assert not is_partial(name)


def test_many_side_by_side(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with replacing(tmp_path / f"{number}.txt") as file:
            file.writelines(f"{number}\n" for _ in range(1000))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(64)))
    assert contents(tmp_path) == {f"{i}.txt": f"{i}\n".encode() * 1000 for i in range(64)}


def test_json_for_people_and_programs(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": Path("x/y"), "list": [1, None]})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"path": "x/y", "list": [1, None]}
    assert text.endswith("}\n")
    assert text.count("\n") == 7  # a line per value


# --- Folders for one process alone


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_two_processes_exclude_each_other(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(UsageError) as refused, locked(tmp_path):
        pass
    assert str(refused.value) == f"{tmp_path}: another groundcli is at work there; wait for it or name another folder"
    assert holder.communicate("")[0] == "released\n"
    with locked(tmp_path):
        assert LOCK in contents(tmp_path)
        second = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path)], input="", capture_output=True, text=True, check=False
        )
        assert "another groundcli is at work there" in second.stderr
        assert second.stdout == ""
    assert contents(tmp_path) == {}


def test_the_lock_of_a_killed_process_holds_nobody_back(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        pass
    assert contents(tmp_path) == {}


def test_no_lock_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    assert contents(tmp_path) == {}


def test_taken_again_and_again_by_several_it_has_one_holder_at_a_time(tmp_path: Path) -> None:
    """The lock's file goes each time, so that some open one that is about to lose its name."""
    folder, marker = tmp_path / "folder", tmp_path / "marker"
    folder.mkdir()
    takers = [
        subprocess.Popen([sys.executable, "-c", TAKE, folder, marker], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    taken = [int(taker.communicate()[0]) for taker in takers]
    assert [taker.returncode for taker in takers] == [0, 0, 0]
    assert sum(taken) >= 3
    assert contents(folder) == {}


# --- Hashes and sizes


def test_hashes_and_sizes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000  # longer than a block that is read at a time
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(b"")
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert sha256(tmp_path / "b") == hashlib.sha256().hexdigest()
    assert megabytes(tmp_path / "a") == megabytes(tmp_path) == 2.56
    with pytest.raises(FileNotFoundError):
        sha256(tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "a.png.jpg"),
        ("a.png.jpg", "a.png.jpg.jpg"),
        ("a.png.jpg/b.png", "a.png.jpg+/b.png.jpg"),  # as a.png may lie beside that folder
        ("a.png.jpg+/b.png", "a.png.jpg++/b.png.jpg"),
        ("holiday/b.png", "holiday/b.png.jpg"),
        ("x" * 247 + ".png", "x" * 247 + ".png.jpg"),
        ("x" * 251 + ".png", "~"),
    ],
)
def test_names_of_pictures_are_one_to_one(name: str, expected: str) -> None:
    shown = beside(name, ".jpg")
    if "~" in expected:
        assert shown != beside("x" * 250 + "y.png", ".jpg")
        assert shown.startswith("x" * 200 + "~")
        assert len(shown) < 255
    else:
        assert shown == expected
