"""What a person sees of a training run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Examples a second: steps a second, times the examples of a step."""

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size

    def render(self, task: Task) -> Text:
        """One column of a task's line."""
        return Text(f"{self.batch_size * (task.speed or 0.0):.0f} examples/s")


@dataclass
class Reporter:
    """A progress bar, and lines that stay above it."""

    bar: Progress
    task: int

    def step(self, loss: float, rate: float) -> None:
        """One more step done."""
        self.bar.update(self.task, advance=1, note=f"loss {loss:.4f}  lr {rate:.1e}")  # type: ignore[arg-type]

    def line(self, text: str) -> None:
        """A line to keep."""
        self.bar.console.print(text)


@contextmanager
def report(console: Console, steps: int, done: int, batch_size: int) -> Iterator[Reporter]:
    """Shows steps, loss, examples/s and time left until the block ends."""
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        RateColumn(batch_size),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=120) as bar:
        yield Reporter(bar, bar.add_task("train", total=steps, completed=done, note=""))
