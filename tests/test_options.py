import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from groundcli.cli import add_command
from groundcli.errors import UsageError
from groundcli.options import Options, option


@dataclass(frozen=True, kw_only=True)
class Sandwich(Options):
    """Something of every kind of option."""

    called = "cook"

    shops: tuple[Path, ...] = option("Where to buy.", argument=True, decides=True)
    bread: Literal["rye", "wheat"] = option("What is outside.", "rye", decides=True)
    filling: tuple[Literal["ham", "egg", "kale"], ...] = option("What is inside; repeatable.", ())
    note: tuple[str, ...] = option("What the cook is told.", (), flag="--tell", metavar="TEXT")
    slices: int | None = option("How many slices.", None, min=1)
    salt: float = option("How much salt.", 0.5, min=0, max=1)
    salt_rounds: int = option("How often.", 3)
    toasted: bool = option("Whether it is toasted.", True)
    wrapped: bool = option("Wrap it.", False)
    plate: Path | None = option("What it lies on.", None)
    cook: str = option("Who makes it.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wrapped and self.plate:
            raise UsageError("--wrapped: needs no --plate")


def make(**values: Any) -> Sandwich:
    return Sandwich.make(**{"shops": "a", "cook": "me", **values})


# --- From Python


def test_plain_values_become_what_the_options_are() -> None:
    plain = make(filling="egg", note=["a", "b"], salt=1, plate="x/y", slices=2)
    assert plain == Sandwich(
        shops=(Path("a"),), cook="me", filling=("egg",), note=("a", "b"), salt=1.0, plate=Path("x/y"), slices=2
    )
    assert type(plain.salt) is float
    assert make(shops=["a", Path("b")]).shops == (Path("a"), Path("b"))


def test_none_stands_for_nothing_said() -> None:
    assert make(bread=None, filling=None, slices=None, salt=None, toasted=None, plate=None) == make()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bred": "rye"}, "bred: no such option; did you mean bread?"),
        ({"salts": 1}, "salts: no such option; did you mean salt?"),
        ({"zzz": 1}, "zzz: no such option"),
        ({"cook": None}, "--cook is missing"),
        ({"shops": None}, "SHOPS is missing"),
        ({"bread": "white"}, "--bread white: expected rye, wheat"),
        ({"filling": ["ham", "Ham"]}, "--filling Ham: expected ham, egg, kale"),
        ({"note": ["a", 1]}, "--tell 1: expected str"),
        ({"slices": "2"}, "--slices '2': expected int"),
        ({"slices": 2.0}, "--slices 2.0: expected int"),
        ({"slices": True}, "--slices True: expected int"),
        ({"salt": "much"}, "--salt 'much': expected float"),
        ({"salt": True}, "--salt True: expected float"),
        ({"toasted": 1}, "--toasted 1: expected bool"),
        ({"shops": 3}, "SHOPS 3: expected Path"),
        ({"shops": ["a", ""]}, "SHOPS: the path is empty; name a file or a folder"),
        ({"plate": ""}, "--plate: the path is empty; name a file or a folder"),
        ({"slices": 0}, "--slices 0: expected 1 or more"),
        ({"salt": -0.5}, "--salt -0.5: expected 0 to 1"),
        ({"salt": 1.5}, "--salt 1.5: expected 0 to 1"),
        ({"salt": float("nan")}, "--salt nan: expected 0 to 1"),
        ({"wrapped": True, "plate": "x"}, "--wrapped: needs no --plate"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_flags_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        make(**values)
    assert str(refused.value) == message


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match=r"^SHOPS is missing$"):
        Sandwich.make(cook="me")
    with pytest.raises(UsageError, match=r"^--cook is missing$"):
        Sandwich.make(shops="a")


def test_all_options_go_into_run_json() -> None:
    arguments = make(plate="x", filling=["egg"]).arguments()
    assert arguments == {
        **{"shops": ["a"], "bread": "rye", "filling": ["egg"], "note": [], "slices": None, "salt": 0.5},
        **{"salt_rounds": 3, "toasted": True, "wrapped": False, "plate": "x", "cook": "me"},
    }
    assert json.loads(json.dumps(arguments)) == arguments
    assert Sandwich.deciding() == ["shops", "bread"]


# --- From the command line


@pytest.fixture(scope="module")
def run() -> Any:
    """Runs the command; gives the options that it was called with, or the error, and what is printed."""
    given: list[Sandwich] = []

    def cook(options: Sandwich) -> None:
        """Makes a sandwich, and says how."""
        given.append(options)

    app = typer.Typer(context_settings={"terminal_width": 200, "max_content_width": 200})
    app.callback()(lambda: None)
    add_command(app, "cook", cook)

    def command(*arguments: str) -> tuple[Any, str]:
        given.clear()
        result = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, ["cook", *arguments])
        return (given[0] if given else result.exception), result.output

    return command


def test_every_option_is_in_the_help(run: Any) -> None:
    _, said = run("--help")
    assert "Makes a sandwich, and says how." in said
    for line in (
        *("Where to buy.", "What is outside.", "What is inside; repeatable.", "What the cook is told."),
        *("How many slices.", "How much salt.", "Whether it is toasted.", "Wrap it.", "What it lies on."),
    ):
        assert line in said
    for flag in ("shops", "--bread", "rye|wheat", "ham|egg|kale", "--tell", "TEXT", "--slices", "x>=1", "--salt"):
        assert flag in said
    for flag, there in (("--toasted", True), ("--no-toasted", True), ("--wrapped", True), ("--no-wrapped", False)):
        assert (f" {flag} " in said) == there
    assert "[default: rye]" in said
    assert "[default: 0.5]" in said
    assert said.count("[required]") == 2


def test_nothing_said_is_what_python_has(run: Any) -> None:
    assert run("a", "--cook", "me")[0] == make()


def test_all_said(run: Any) -> None:
    flags = ("--bread", "wheat", "--filling", "ham", "--filling", "kale", "--tell", "a", "--slices", "2", "--salt", "1")
    more = ("--salt-rounds", "7", "--no-toasted", "--wrapped", "--cook", "me")
    assert run("a", "b", *flags, *more)[0] == Sandwich(
        shops=(Path("a"), Path("b")),
        bread="wheat",
        filling=("ham", "kale"),
        note=("a",),
        slices=2,
        salt=1.0,
        salt_rounds=7,
        toasted=False,
        wrapped=True,
        cook="me",
    )
    assert run("a", "--cook", "me", "--toasted", "--plate", "x/y")[0] == make(plate="x/y")


def test_the_command_that_gives_them(run: Any) -> None:
    for values in (
        {},
        {"shops": ["a", "b c"], "bread": "wheat", "filling": ["ham", "kale"], "note": "it's warm", "toasted": False},
        {"slices": 2, "salt": 1, "wrapped": True},
    ):
        options = make(**values)
        name, called, *arguments = shlex.split(options.command)
        assert (name, called) == ("groundcli", "cook")
        assert run(*arguments)[0] == options


def test_contradictions_are_refused_there_too(run: Any) -> None:
    error, _ = run("a", "--cook", "me", "--wrapped", "--plate", "x")
    assert isinstance(error, UsageError)
    assert str(error) == "--wrapped: needs no --plate"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cook", "me"], ["Missing argument 'shops"]),
        (["a"], ["Missing option '--cook'"]),
        (["a", "--cook", "me", "--bread", "white"], ["Invalid value for '--bread'", "rye", "wheat"]),
        (["a", "--cook", "me", "--filling", "hem"], ["Invalid value for '--filling'", "ham", "egg", "kale"]),
        (["a", "--cook", "me", "--slices", "0"], ["Invalid value for '--slices'", "1"]),
        (["a", "--cook", "me", "--slice", "1"], ["No such option: --slice"]),
    ],
)
def test_typos_are_answered(run: Any, arguments: list[str], said: list[str]) -> None:
    error, output = run(*arguments)
    assert isinstance(error, SystemExit)
    assert error.code == 2
    assert [words for words in said if words not in output] == []


def test_a_typo_is_answered_before_torch_is_imported() -> None:
    code = """
import sys
import groundcli
try:
    groundcli.annotate("photos", "out", overlay=False)
except Exception as error:
    print(error, "torch" in sys.modules)
"""
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said == "overlay: no such option; did you mean overlays? False\n"
