"""Tables for the terminal and for papers."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from groundcli.evaluation.tables import Table


def for_terminal(title: str, tables: Sequence[Table]) -> RenderableType:
    """To be printed by rich, on a wide page: no cell is cut."""
    parts: list[RenderableType] = [Text(title, style="bold"), *map(_rich, tables)]
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts))


def as_markdown(title: str, tables: Sequence[Table]) -> str:
    """Markdown's tables (GitHub's)."""
    return "\n".join([f"**{_escaped(title)}**\n", *map(_markdown, tables)])


def is_right(table: Table, column: int) -> bool:
    """Whether a column is of numbers, which stand to the right."""
    return column > 0 and all(row[column][0] in "0123456789+-" for row in table.rows if row[column])


def _rich(table: Table) -> RichTable:
    rich = RichTable(box=None, pad_edge=False)
    for i, name in enumerate(table.header):
        rich.add_column(Text(name), justify="right" if is_right(table, i) else "left", no_wrap=True)
    for row in table.rows:
        rich.add_row(*map(Text, row))
    return rich


def _markdown(table: Table) -> str:
    rules = ["---:" if is_right(table, i) else "---" for i in range(len(table.header))]
    rows = [table.header, rules, *table.rows]
    return "".join(f"| {' | '.join(map(_escaped, row))} |\n" for row in rows)


def _escaped(text: str) -> str:
    return text.strip().replace("|", "\\|").replace("<", "&lt;")
