"""What every command has in common: its version, its help, and one line for an error."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from groundcli import __version__, cli
from groundcli.__main__ import main
from groundcli.annotation import AnnotateOptions
from groundcli.errors import BadInput, GroundcliError, Interrupted, UsageError
from groundcli.options import flag_of
from tests.cli.conftest import Run, signals_kept


def test_version(groundcli: Run) -> None:
    done = groundcli("--version")
    assert (done.stdout, done.stderr) == (f"groundcli {__version__}\n", "")


def test_it_is_a_module(process: Run) -> None:
    assert process("--version").stdout == f"groundcli {__version__}\n"


def test_every_command_is_in_the_help(groundcli: Run) -> None:
    said = groundcli("--help").stdout
    for command in ("annotate", "merge", "eval", "train", "finetune", "pretrain-elmo", "weights"):
        assert f" {command} " in said
    assert "Points at every phrase of every caption" in groundcli("annotate", "-h").stdout


def test_nothing_of_the_help_is_cut_short_in_80_columns(process: Run) -> None:
    said = process("annotate", "-h", COLUMNS="80").stdout
    flags = {field.name: flag_of(field) for field in dataclasses.fields(AnnotateOptions) if field.name != "images"}
    assert [name for name, flag in flags.items() if f"  {flag} " not in said] == []
    said += process("-h", COLUMNS="80").stdout
    assert "..." not in said.replace("{images}...", "").replace("images...", "").replace("[ARGS]...", "")
    assert max(map(len, said.splitlines())) <= 80


def test_an_error_is_one_line(groundcli: Run, tmp_path: Path) -> None:
    """However long it is."""
    name = tmp_path / ("long " * 40) / "folder"
    done = groundcli("annotate", name, "--out", tmp_path / "out", code=3)
    assert (done.stdout, done.stderr) == ("", f"error: {name}: no such file or folder; check the path\n")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("new\nline", r"new\nline"),
        ("\x1b]0;title", r"\x1b]0;title"),
        ("b\x07ell\x7f", r"b\x07ell\x7f"),
        ("turned\u202eround", r"turned\u202eround"),
        ("Bär 熊 😀", "Bär 熊 😀"),
    ],
)
def test_control_characters_of_a_name_are_escaped(groundcli: Run, tmp_path: Path, name: str, shown: str) -> None:
    done = groundcli("annotate", f"no such/{name}", "--out", tmp_path / "out", code=3)
    assert done.stderr == f"error: no such/{shown}: no such file or folder; check the path\n"


def test_markup_in_a_name_stays_text(groundcli: Run, tmp_path: Path) -> None:
    done = groundcli("merge", tmp_path / "[bold]a[/bold]", "--out", tmp_path / "out", code=3)
    assert done.stderr == f"error: {tmp_path / '[bold]a[/bold]'}: holds no run of `groundcli annotate`\n"


@pytest.mark.skipif(os.name != "posix", reason="names that Windows doesn't allow")
def test_a_name_that_is_no_text_is_escaped(groundcli: Run, tmp_path: Path) -> None:
    done = groundcli("annotate", os.fsdecode(b"latin-\xfc"), "--out", tmp_path / "out", code=3)
    assert done.stderr == "error: latin-\\udcfc: no such file or folder; check the path\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (GroundcliError("no weights"), 3, "error: no weights\n"),
        (UsageError("--x: no"), 2, "error: --x: no\n"),
        (BadInput("a.jpg: damaged"), 1, "error: a.jpg: damaged\n"),
        (Interrupted("interrupted: go on"), 130, "interrupted: go on\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(28, "No space left on device", "out/a.json"), 3, "error: out/a.json: No space left on device\n"),
        (OSError(28, "No space left on device"), 3, "error: the disk: No space left on device\n"),
        (BrokenPipeError(), 1, ""),
        (
            ValueError(":o: is\nwrong"),
            3,
            "error: an error that was not foreseen (ValueError: :o: is wrong); with GROUNDCLI_DEBUG=1 it says where\n",
        ),
    ],
)
def test_each_kind_of_error_has_its_exit_code(groundcli: Run, error: BaseException, code: int, said: str) -> None:
    def fail() -> None:
        raise error

    with mock.patch.object(cli, "app", fail):
        assert groundcli(code=code).stderr == said


def test_ctrl_c_before_there_is_anything_to_keep(groundcli: Run, tmp_path: Path) -> None:
    with mock.patch("groundcli.annotation.run.plan", side_effect=KeyboardInterrupt):
        done = groundcli("annotate", tmp_path, "--out", tmp_path / "out", "--dry-run", code=130)
    assert (done.stdout, done.stderr) == ("", "interrupted\n")


@pytest.mark.parametrize("wanted", ["1", "0", ""])
def test_debug_shows_the_traceback_and_what_led_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wanted: str
) -> None:
    (tmp_path / "run.json").write_text("{")
    monkeypatch.setenv("GROUNDCLI_DEBUG", wanted)
    monkeypatch.setattr(sys, "argv", ["groundcli", "annotate", str(tmp_path), "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as end, signals_kept():
        main()
    said = capsys.readouterr().err
    line = f"error: {tmp_path / 'run.json'}: can't be read as a run's; name another --out, or move it elsewhere\n"
    assert end.value.code == 2
    if wanted == "1":
        assert said.startswith("Traceback (most recent call last):")
        assert "JSONDecodeError" in said
        assert "groundcli.errors.UsageError: " in said
        assert said.endswith(line)
    else:
        assert said == line


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_end_leaves_no_traceback(number: signal.Signals) -> None:
    """As torchrun sends it to those whose peer died, while the interpreter ends."""
    code = (
        "import atexit, os, sys; from groundcli import cli; from groundcli.__main__ import main\n"
        f"atexit.register(os.kill, os.getpid(), {int(number)})\n"
        "sys.argv = ['groundcli', 'annotate', 'no such', '--out', 'out']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "error: no such: no such file or folder; check the path\n")
    assert done.returncode == -number
