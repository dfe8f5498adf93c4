"""What commands show: results on stdout, progress and warnings on stderr."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from groundcli.errors import legible

T = TypeVar("T")


class Plain(Console):
    """Shows texts as they are: no markup, and control characters escaped."""

    def print(self, *objects: Any, **how: Any) -> None:
        """As rich's."""
        super().print(*(legible(one) if isinstance(one, str) else one for one in objects), **how)


def output() -> Console:
    """For results. Of processes that `torchrun` started together the first one alone prints."""
    return Plain(soft_wrap=True, highlight=False, markup=False, emoji=False, quiet=os.environ.get("RANK", "0") != "0")


def messages() -> Console:
    """For progress and warnings."""
    return Plain(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


@contextmanager
def waiting(text: str) -> Iterator[Callable[[], None]]:
    """A spinner, where somebody looks at stderr, until the block ends or what it gives is called."""
    status = messages().status(Text(text))
    if status.console.is_terminal:
        status.start()
    try:
        yield status.stop
    finally:
        status.stop()


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Passes items on and shows how many there were: as a bar, or where nobody looks as a line now and then.

    Such a line is for each tenth of the way, five seconds apart at least: none for what is done at once.
    """
    console = messages()
    if console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        shown = TextColumn("{task.description}", markup=False)
        columns = (shown, BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn())
        with Progress(*columns, console=console, speed_estimate_period=300) as bar:
            yield from bar.track(items, total, description=legible(what))
        return
    started = last = time.monotonic()
    tenths = 0
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > 5 and 10 * done // max(1, total) > tenths:
            last, tenths = time.monotonic(), 10 * done // max(1, total)
            console.print(f"{what}: {done} of {total}, {last - started:.0f} s")


def shower(what: str, begin: Callable[[], None] = lambda: None) -> Callable[[Iterable[T], int], Iterator[T]]:
    """`progress` of a named work, as functions that know nothing of consoles take it; calls `begin` before."""

    def show(items: Iterable[T], total: int) -> Iterator[T]:
        begin()
        return progress(items, total, what)

    return show


def warn_untrained(name: str) -> None:
    """Says loudly that a model's points mean nothing."""
    warning = f"WARNING: {name} stands on a random backbone and ELMo (--untrained): its points mean nothing."
    messages().print(warning, style="bold red")
