import time
from itertools import count

import pytest

from groundcli.cli import console


def test_what_is_done_at_once_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert [*console.progress(iter("abc"), 3, "annotating")] == ["a", "b", "c"]
    assert [*console.progress(iter(()), 0, "annotating")] == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(1, range(10, 101, 10)), (0.25, range(21, 85, 21))],  # each tenth, but none sooner than five seconds after another
)
def test_where_nobody_looks_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seconds: float, shown: range
) -> None:
    ticks = count()
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks) * seconds)
    assert [*console.shower("annotating")(range(100), 100)] == [*range(100)]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"annotating: {done} of 100" for done in shown]
    assert lines[-1].endswith(" s")


def test_the_spinner_ends_before_the_bar_begins(capsys: pytest.CaptureFixture[str]) -> None:
    ended = []
    shown = console.shower("annotating", lambda: ended.append(True))
    assert [*shown(iter("ab"), 2)] == ["a", "b"]
    assert ended == [True]
    with console.waiting("loading the model") as loaded:  # no terminal, no spinner
        loaded()
    assert capsys.readouterr().err == ""


def test_of_several_processes_the_first_alone_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        console.output().print(f"rank {rank}")
        console.messages().print(f"warning {rank}")
    said = capsys.readouterr()
    assert said.out == "rank 0\n"
    assert said.err == "warning 0\nwarning 1\n"


def test_a_model_that_knows_nothing_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    console.warn_untrained("new [model]")
    assert capsys.readouterr().err == (
        "WARNING: new [model] stands on a random backbone and ELMo (--untrained): its points mean nothing.\n"
    )


def test_what_names_and_captions_hold_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    odd = "\x1b[2Jred\u2028[/x] [bold]\x07:dog:"
    shown = r"\x1b[2Jred\u2028[/x] [bold]\x07:dog:"
    console.output().print(odd)
    console.messages().print(odd)
    console.warn_untrained(odd)
    said = capsys.readouterr()
    assert said.out == f"{shown}\n"
    assert said.err.splitlines()[0] == shown
    assert shown in said.err.splitlines()[1]
