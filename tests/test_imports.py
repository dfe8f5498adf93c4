"""The house: imports point one way, what workers need is light, and `model/` touches no files."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "groundcli"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_FILES = 80
MOST_FLOORS = 7  # under the command line
DOORS = ("groundcli", "groundcli.__main__", "groundcli.cli")  # they open all rooms, and no room imports them
# What the command line's help, the error of a typo and worker processes import; a room stands for all of its modules.
LIGHT = (
    *("groundcli.cli", "groundcli.options", "groundcli.recipe", "groundcli.annotation.work"),
    *("groundcli.data", "groundcli.heat", "groundcli.answer", "groundcli.output"),
    *("groundcli.annotation.run", "groundcli.grounder"),  # annotate on CPUs, from end to end
)
REFUSE_TORCH_AND_SPACY = """
import importlib, sys, traceback
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "spacy"):
            ours = [frame for frame in traceback.extract_stack() if "groundcli" in frame.filename]
            sys.exit(" > ".join(f"{frame.filename}:{frame.lineno}" for frame in ours) + f" > {name}")
sys.meta_path.insert(0, Refuse())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
# The libraries stay loaded: loading them anew for each module would take minutes.
IMPORT_EACH_ALONE = """
import importlib, sys
for name in sys.argv[1:]:
    for old in [old for old in sys.modules if old.partition(".")[0] == "groundcli"]:
        del sys.modules[old]
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")
"""
TOUCHES_FILES = frozenset(
    {"os", "io", "pathlib", "shutil", "tempfile", "h5py", "safetensors", "urllib"}  # modules
    | {"open", "print", "input", "torch.load", "torch.save", "np.load", "np.save", "json.load", "json.dump"}
    | {"read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "fromfile", "memmap"}  # methods
)

Graph = Mapping[str, frozenset[str]]


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


TREES = {name_of(file): ast.parse(file.read_text("utf-8")) for file in FILES}


def imported(node: ast.AST) -> Iterator[str]:
    """Modules of the package that code imports, in functions too, but for what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (name if name in TREES else child.module for name in names)
        else:
            yield from imported(child)


# The package itself is no target: whoever asks for its version imports it.
MODULES: Graph = {
    name: frozenset(imported(tree)) & (TREES.keys() - {name, "groundcli"}) for name, tree in TREES.items()
}


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def rooms() -> Graph:
    """What rooms import of each other: packages, and the single modules right in `groundcli`."""
    found: dict[str, set[str]] = {}
    for module, below in MODULES.items():
        found.setdefault(room_of(module), set()).update(map(room_of, below))
    return {room: frozenset(below - {room}) for room, below in found.items()}


def circle_in(graph: Graph) -> str:
    """Modules each of which imports the next, the last one the first; empty where there are none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> str:
        if name in path:
            return " > ".join([*path[path.index(name) :], name])
        if name in done:
            return ""
        found = next((circle for below in sorted(graph[name]) if (circle := walk(below, [*path, name]))), "")
        done.add(name)
        return found

    return next((circle for name in sorted(graph) if (circle := walk(name, []))), "")


def tallest(graph: Graph) -> list[str]:
    """The longest way down."""
    towers: dict[str, list[str]] = {}

    def tower(name: str) -> list[str]:
        if name not in towers:
            towers[name] = [name, *max(map(tower, sorted(graph[name])), key=len, default=[])]
        return towers[name]

    return max(map(tower, sorted(graph)), key=len)


def fresh(code: str, modules: list[str]) -> str:
    """What code says of modules in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_there_are_few_files() -> None:
    assert len(FILES) <= MOST_FILES


@pytest.mark.parametrize("graph", [MODULES, rooms()], ids=["modules", "rooms"])
def test_no_circle(graph: Graph) -> None:
    circle = circle_in(graph)
    assert not circle, circle


def test_nothing_imports_the_command_line() -> None:
    up = {room: below & set(DOORS) for room, below in rooms().items() if room not in DOORS}
    assert not [room for room, doors in up.items() if doors]


def test_floors() -> None:
    under = {room: below for room, below in rooms().items() if room not in DOORS}
    circle = circle_in(under)
    assert not circle, circle
    tower = tallest(under)
    assert len(tower) <= MOST_FLOORS, " > ".join(tower)


@pytest.mark.parametrize("room", LIGHT)
def test_imports_neither_torch_nor_spacy(room: str) -> None:
    modules = [name for name in TREES if name == room or name.startswith(f"{room}.")]
    assert modules, f"there is no {room}"
    said = fresh(REFUSE_TORCH_AND_SPACY, modules)
    assert not said, said


@pytest.mark.slow
def test_every_module_imports_alone() -> None:
    said = fresh(IMPORT_EACH_ALONE, sorted(TREES))
    assert not said, said


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every module, function and method that code names, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield from ((node.lineno, name) for name in (node.attr, ast.unparse(node)))


def test_the_model_touches_no_files_and_prints_nothing() -> None:
    model = [name for name in TREES if room_of(name) == "groundcli.model"]
    assert "groundcli.model.grounding_model" in model
    touched = [
        f"{name}:{line} {used}" for name in model for line, used in names_in(TREES[name]) if used in TOUCHES_FILES
    ]
    assert not touched


def test_the_model_stands_on_recipes_alone() -> None:
    assert rooms()["groundcli.model"] <= {"groundcli.recipe"}
