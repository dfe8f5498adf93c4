"""What the documentation says can be done: links lead somewhere, commands, options and recipe keys exist."""

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from groundcli import Grounder, evaluate
from groundcli.cli import app
from groundcli.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "weights/README.md", ROOT / "examples/README.md"})
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
LEFT_OUT = "..."  # of a command line: what stands in the one above
OF_OTHERS = {"--no-deps", "--index-url", "--nproc-per-node", "--logdir"}  # options of pip, torchrun and TensorBoard

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text("utf-8"))


def anchors(path: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_lines(path: Path) -> Iterator[str]:
    """Each command of the blocks that are for a shell."""
    for language, block in FENCE.findall(path.read_text("utf-8")):
        if not language:
            for line in block.replace("\\\n", " ").splitlines():
                yield from (part.strip() for part in line.split("&&"))


def arguments(line: str) -> list[str] | None:
    """What follows `groundcli` on a command line, None where it runs something else."""
    start = re.match(r"(\w+=\S+ )*(groundcli|torchrun .*-m groundcli)(?= |$)", line)
    return shlex.split(line[start.end() :], comments=True) if start else None


def command_of(given: list[str]) -> tuple[Any, list[str]]:
    """The command that arguments name, and those of them that are its own."""
    command: Any = typer.main.get_command(app)
    while given and given[0] in getattr(command, "commands", {}):
        command, given = command.commands[given[0]], given[1:]
    return command, given


def options_of(command: Any) -> set[str]:
    """All its options, and those of its commands."""
    own = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    below = (options_of(child) for child in getattr(command, "commands", {}).values())
    return own.union({"--help", "-h"}, *below)


def wrong_in(given: list[str], whole: bool) -> str:
    """What the command line would refuse of these arguments; nothing is run.

    Args:
        given: the arguments.
        whole: whether values and what is missing count too, not the names of commands and options alone.
    """
    command, rest = command_of(given)
    if hasattr(command, "commands"):
        return f"no command {rest[0]}" if rest and not rest[0].startswith("-") and rest[0] != "COMMAND" else ""
    unknown = {word.partition("=")[0] for word in rest if word.startswith("-")} - options_of(command)
    if unknown or not whole:
        return ", ".join(sorted(unknown))
    try:
        command.make_context(command.name, list(rest))
    except Exception as error:  # click's, or typer's copy of click's
        return str(error)
    return ""


@page
def test_links(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if not re.match(r"\w+:", target):
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), target


@page
def test_command_lines(page: Path) -> None:
    refused = {}
    for line in shell_lines(page):
        given = arguments(line)
        if given is not None and (wrong := wrong_in(given, whole=LEFT_OUT not in given)):
            refused[line] = wrong
    assert not refused


@page
def test_commands_and_options_in_the_text(page: Path) -> None:
    refused = {}
    known = options_of(typer.main.get_command(app)) | OF_OTHERS
    for text in INLINE.findall(prose(page)):
        given = arguments(" ".join(text.split()))
        if given is not None and (wrong := wrong_in(given, whole=False)):
            refused[text] = wrong
        elif text.startswith("--") and (unknown := set(re.findall(r"(?:^|\s)(--[\w-]+)", text)) - known):
            refused[text] = ", ".join(unknown)
    assert not refused


def test_options_in_messages() -> None:
    """What errors and hints name is there to be given."""
    known = options_of(typer.main.get_command(app)) | OF_OTHERS
    unknown = {}
    for file in sorted((ROOT / "groundcli").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = set(re.findall(r"(?<![\w(-])--[a-z][\w-]*\w(?![\w-])", node.value))
                unknown |= dict.fromkeys(named - known, file.name)
    assert not unknown


@page
def test_recipe_keys(page: Path) -> None:
    for quoted, plain in re.findall(r"--set (?:'([^']+)'|(\S+=[\w./-]+))", page.read_text("utf-8")):
        load_recipe("lite", [quoted or plain])


@page
def test_benchmarks(page: Path) -> None:
    for script in re.findall(r"benchmarks/\w+\.py", page.read_text("utf-8")):
        assert (ROOT / script).is_file()


@page
def test_files_of_the_repository(page: Path) -> None:
    for path in re.findall(r"`((?:groundcli|tests|examples|docs|weights)/[\w./-]+)`", prose(page)):
        assert (ROOT / path).exists(), path


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in LINK.findall((ROOT / "README.md").read_text())}
    assert set((ROOT / "docs").glob("*.md")) <= linked


def test_every_command_is_in_the_docs() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    missing = [name for name in typer.main.get_command(app).commands if f"groundcli {name}" not in text]
    assert not missing


@pytest.mark.slow
def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, code in FENCE.findall((ROOT / "docs/annotate.md").read_text()):
        if language:
            exec(code, names)
    printed = [line.partition(")")[0] for line in capsys.readouterr().out.splitlines()]
    assert printed[:2] == ["a woman (0, 7", "an orange suit (11, 25"]
    assert printed[2].startswith("<Answer 'a cat' on ")
    assert (tmp_path / "overlay.jpg").stat().st_size


@pytest.mark.slow
def test_the_export_needs_nothing_of_ours(tmp_path: Path) -> None:
    """The example of docs/weights.md, in a process that has onnxruntime, numpy and Pillow alone."""
    (code,) = [code for language, code in FENCE.findall((ROOT / "docs/weights.md").read_text()) if language]
    assert len([line for line in code.splitlines() if line.strip()]) <= 21
    others = [f"sys.modules[{name!r}] = None" for name in ("torch", "groundcli", "safetensors", "tokenizers", "scipy")]
    (tmp_path / "example.py").write_text("\n".join(["import sys", *others, code]))
    done = subprocess.run(
        [sys.executable, tmp_path / "example.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert not done.stderr
    x, y = map(float, done.stdout.split())
    phrase = "a smiling woman"
    (ours,) = Grounder.load("lite").ground(ROOT / "examples/photos/astronaut.jpg", phrases=[phrase]).phrases
    assert ours.point is not None
    assert abs(x - ours.point[0]) <= ours.size[0] / 28
    assert abs(y - ours.point[1]) <= ours.size[1] / 28


# --- The scripts of docs/howto


SCRIPTS = sorted((ROOT / "docs/howto").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_commands_of_a_script(script: Path) -> None:
    text = re.sub(r"\$\{?(\w+)\}?", r"\1", script.read_text("utf-8"))
    lines = [given for line in text.splitlines() if (given := arguments(line.strip())) is not None]
    assert lines
    assert not [wrong for given in lines if (wrong := wrong_in(given, whole=True))]
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0


def test_the_other_model_of_the_script_is_read(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("compare", ROOT / "docs/howto/compare.py")
    assert spec
    assert spec.loader
    compare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compare)
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg")
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [15, 10, 30, 20], "phrase": "a dog"}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (tmp_path / "mine.json").write_text(json.dumps(truth))
    compare.main(tmp_path, "mine.json", tmp_path / "theirs.jsonl")
    options = {"dataset": "folder", "data": tmp_path, "split": "mine", "predictions": tmp_path / "theirs.jsonl"}
    summary = evaluate(**options).summary
    assert summary["predictions"] == {"missing": 0, "unused": 0}
    assert summary["box_recall"]["R@1"] == 1
