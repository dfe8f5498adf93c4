"""What a person sees of a training run: a bar, lines, TensorBoard's events and, at its end, a picture of the curves."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from groundcli.data import Sample
from groundcli.data.images import decode
from groundcli.devices import TorchRuntime
from groundcli.errors import BadInput
from groundcli.grounder import Grounder
from groundcli.model.grounding_model import GroundingModel
from groundcli.options import Precision
from groundcli.output.overlays import draw
from groundcli.training.state import METRICS
from groundcli.training.validation import Judge

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENTS, PLOT = "tensorboard", "curves.png"
SHOWN = 4  # validation images, the same ones in every epoch


class Bar(Progress):
    """Shows steps, a note, examples per second and time left; and lines that stay above them."""

    def __init__(self, console: Console, steps: int, done: int, batch_size: int):
        counted = (TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=20))
        noted = (TextColumn("{task.fields[note]}"), TextColumn("left"), TimeRemainingColumn())
        disable = not console.is_terminal  # epochs are lines, which are enough for a file
        super().__init__(*counted, *noted, console=console, speed_estimate_period=120, disable=disable)
        self._batch_size = batch_size
        self._task = self.add_task("", total=steps, completed=done, note="")

    def step(self, note: str) -> None:
        """One more step done."""
        rate = self._batch_size * (self.tasks[0].speed or 0)
        self.update(self._task, advance=1, note=f"{note}  {rate:.0f} examples/s")

    def line(self, text: str) -> None:
        """A line to keep."""
        self.console.print(text, markup=False, soft_wrap=True)


class Reporter:
    """Tells each step and epoch to the progress bar, to `metrics.jsonl` and to TensorBoard."""

    def __init__(self, bar: Bar, metrics: IO[str] | None = None, events: "SummaryWriter | None" = None):
        """`metrics` and `events` are the open files of the process that writes."""
        self.line = bar.line
        self._bar, self._metrics, self._events = bar, metrics, events
        self._seconds = self._waited = 0.0
        self._best = ""

    def step(
        self, step: int, epoch: int, terms: Mapping[str, float], rate: float, seconds: float, waited: float
    ) -> None:
        """A step is done, which took so long, and `waited` so many seconds of them for data."""
        loss = sum(terms.values())
        self._seconds += seconds
        self._waited += waited
        times = {"seconds": round(seconds, 4), "waited": round(waited, 4)}
        self._write({"step": step, "epoch": epoch, "loss": loss, **terms, "lr": rate, **times})
        self._curves("train", {"loss": loss, "lr": rate, **terms}, step)
        parts = " + ".join(f"{name} {value:.2f}" for name, value in terms.items())
        self._bar.step(f"loss {loss:.4f} = {parts}  lr {rate:.1e}  data wait {self._wait:.0%}{self._best}")

    def epoch(
        self,
        step: int,
        epoch: int,
        sums: Mapping[str, float],
        judge: Judge | None,
        measured: float | None,
        better: bool,
    ) -> None:
        """An epoch is done, with the sums of its steps' terms and what validation gave."""
        terms = {name: total / sums["steps"] for name, total in sums.items() if name != "steps"}
        loss, title = sum(terms.values()), ""
        self._write({"step": step, "epoch": epoch, "loss": loss, **terms, **({judge.name: measured} if judge else {})})
        self._curves("epoch", terms, step)
        if judge and measured is not None:
            self._curves("validation", {judge.name: measured}, step)
            title = f", {judge.title} {100 * measured:.2f} %"
            self._best = f"  best {measured:.2%}" if better else self._best
        best = ", the best" if better and judge else ""
        self.line(f"epoch {epoch}: loss {loss:.4f}{title}{best}; data wait {self._wait:.1%}")

    def overlays(self, model: GroundingModel, samples: Sequence[Sample], precision: Precision, step: int) -> None:
        """Where the model points in the first images; one that can't be decoded is left out."""
        grounder = Grounder(TorchRuntime(model, model.backbone.mean.device, precision))
        for sample in samples[:SHOWN] if self._events else ():
            with suppress(BadInput):
                image = decode(sample.image)
                picture = np.asarray(draw(image, [grounder.ground(grounder.encode(image), sample.captions[0])]))
                self._events.add_image(sample.name, picture, step, dataformats="HWC")  # type: ignore
        model.train()

    def _write(self, line: Mapping[str, object]) -> None:
        if self._metrics:
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()

    def _curves(self, group: str, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items() if self._events else ():
            self._events.add_scalar(f"{group}/{name}", value, step)  # type: ignore

    @property
    def _wait(self) -> float:
        """The share of the steps' time that was spent waiting for data."""
        return self._waited / max(self._seconds, 1e-9)


@contextmanager
def report(console: Console, out: Path, steps: int, done: int, batch_size: int, writes: bool) -> Iterator[Reporter]:
    """Reports into a run's folder, where this process `writes`, and to a console until the block ends."""
    with Bar(console, steps, done, batch_size) as bar:
        if not writes:
            yield Reporter(bar)
            return
        from torch.utils.tensorboard import SummaryWriter

        # What an earlier process wrote of later steps is hidden: they are done again.
        events = SummaryWriter(str(out / EVENTS), purge_step=done + 1)  # type: ignore[no-untyped-call]
        with (out / METRICS).open("a", encoding="utf-8") as metrics, closing(events):
            yield Reporter(bar, metrics, events)


def plot(out: Path) -> None:
    """Draws `metrics.jsonl` as `curves.png`: the loss and its terms, the learning rate, and the validation measure."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in (out / METRICS).read_text("utf-8").splitlines()]
    steps = [line for line in lines if "lr" in line]
    known = {"step", "epoch", "loss", "lr", "seconds", "waited", "words", "sentence", "contrast"}
    measure = next((key for line in lines for key in line if key not in known), "")
    epochs = [line for line in lines if measure and line.get(measure) is not None]
    figure = Figure(figsize=(12, 4), layout="constrained")
    loss, rate, accuracy = figure.subplots(1, 3)
    for name in ("loss", "words", "sentence", "contrast"):
        if points := [(line["step"], line[name]) for line in steps if name in line]:
            loss.plot(*zip(*points, strict=True), label=name, linewidth=1)
    rate.plot([line["step"] for line in steps], [line["lr"] for line in steps])
    accuracy.plot([line["epoch"] for line in epochs], [100 * line[measure] for line in epochs], marker="o")
    for axes, title, below in ((loss, "loss", "step"), (rate, "learning rate", "step"), (accuracy, measure, "epoch")):
        axes.set_title(title.replace("_", " ") + (", %" if axes is accuracy and measure else ""))
        axes.set_xlabel(below)
    if steps:
        loss.legend()
    figure.savefig(out / PLOT, dpi=120)
