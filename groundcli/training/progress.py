"""What a person sees of a training run: a bar, lines, TensorBoard's events and, at its end, a picture of the curves."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from groundcli.data.images import decode
from groundcli.data.sample import Sample
from groundcli.errors import BadInput
from groundcli.grounder import Grounder
from groundcli.model.grounding_model import GroundingModel
from groundcli.options import Precision
from groundcli.output.overlays import draw
from groundcli.training.state import METRICS
from groundcli.training.validation import Judge

EVENTS, PLOT = "tensorboard", "curves.png"
SHOWN = 4  # validation images, the same ones in every epoch


class RateColumn(ProgressColumn):
    """Examples a second: steps a second, times the examples of a step."""

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size

    def render(self, task: Task) -> Text:
        """One column of a task's line."""
        return Text(f"{self.batch_size * (task.speed or 0.0):.0f} examples/s")


@contextmanager
def bar(console: Console, steps: int, done: int, batch_size: int) -> Iterator["Bar"]:
    """Shows steps, a note, examples/s and time left until the block ends."""
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[note]}"),
        RateColumn(batch_size),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=120) as shown:
        yield Bar(shown, total=steps, done=done)


class Bar:
    """A progress bar, and lines that stay above it."""

    def __init__(self, shown: Progress, total: int, done: int):
        self._shown = shown
        self._task = shown.add_task("train", total=total, completed=done, note="")

    def step(self, note: str) -> None:
        """One more step done."""
        self._shown.update(self._task, advance=1, note=note)

    def line(self, text: str) -> None:
        """A line to keep."""
        self._shown.console.print(text, markup=False, soft_wrap=True)


class Events:
    """TensorBoard's event files of a run: `tensorboard --logdir RUN`."""

    def __init__(self, out: Path, step: int):
        """Opens them; what an earlier process wrote of later steps is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / EVENTS), purge_step=step + 1)  # type: ignore[no-untyped-call]

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Points of curves, by the curves' names."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]

    def overlays(self, model: GroundingModel, samples: Sequence[Sample], precision: Precision, step: int) -> None:
        """Where the model points in the first images; one that can't be decoded is left out."""
        grounder = Grounder(model, model.backbone.mean.device, precision)
        for sample in samples[:SHOWN]:
            try:
                image = decode(sample.image)
            except BadInput:
                continue
            answers = [grounder.ground(grounder.encode(image), sample.captions[0])]
            picture = np.asarray(draw(image, answers))
            self._writer.add_image(sample.name, picture, step, dataformats="HWC")  # type: ignore[no-untyped-call]
        model.train()

    def close(self) -> None:
        """Writes down what is still in memory."""
        self._writer.close()  # type: ignore[no-untyped-call]


class Reporter:
    """Tells each step and epoch to the progress bar, to `metrics.jsonl` and to TensorBoard."""

    def __init__(self, shown: Bar, metrics: IO[str] | None = None, events: Events | None = None):
        self.events = events
        self._bar = shown
        self._metrics = metrics
        self._seconds = self._waited = 0.0
        self._best = ""

    def _write(self, line: Mapping[str, object]) -> None:
        if self._metrics:
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()

    def step(
        self, step: int, epoch: int, terms: Mapping[str, float], rate: float, seconds: float, waited: float
    ) -> None:
        """A step is done, which took so long, and `waited` so many seconds of them for data."""
        loss = sum(terms.values())
        self._seconds += seconds
        self._waited += waited
        times = {"seconds": round(seconds, 4), "waited": round(waited, 4)}
        self._write({"step": step, "epoch": epoch, "loss": loss, **terms, "lr": rate, **times})
        if self.events:
            self.events.scalars({"train/loss": loss, "train/lr": rate, **_under("train", terms)}, step)
        parts = " + ".join(f"{name} {value:.2f}" for name, value in terms.items())
        wait = f"data wait {self.wait:.0%}"
        self._bar.step(f"loss {loss:.4f} = {parts}  lr {rate:.1e}  {wait}{self._best}")

    @property
    def wait(self) -> float:
        """The share of the steps' time that was spent waiting for data."""
        return self._waited / max(self._seconds, 1e-9)

    def epoch(
        self,
        step: int,
        epoch: int,
        sums: Mapping[str, float],
        judge: Judge | None,
        accuracy: float | None,
        better: bool,
    ) -> None:
        """An epoch is done, with the sums of its steps' terms and what validation found."""
        terms = {name: total / sums["steps"] for name, total in sums.items() if name != "steps"}
        loss = sum(terms.values())
        measured = {judge.name: accuracy} if judge else {}
        self._write({"step": step, "epoch": epoch, "loss": loss, **terms, **measured})
        if self.events:
            self.events.scalars(_under("epoch", terms), step)
            if judge and accuracy is not None:
                self.events.scalars({f"validation/{judge.name}": accuracy}, step)
        found = "" if judge is None or accuracy is None else f", {judge.title} {100 * accuracy:.2f} %"
        self.line(f"epoch {epoch}: loss {loss:.4f}{found}{', the best' if better else ''}; data wait {self.wait:.1%}")
        if better and found:
            self._best = f"  best {accuracy:.2%}"

    def line(self, text: str) -> None:
        """A line to keep."""
        self._bar.line(text)


@contextmanager
def report(console: Console, out: Path, steps: int, done: int, batch_size: int, writes: bool) -> Iterator[Reporter]:
    """Reports into a run's folder, where this process `writes`, and to a console until the block ends."""
    with bar(console, steps, done, batch_size) as shown:
        if not writes:
            yield Reporter(shown)
            return
        with (out / METRICS).open("a", encoding="utf-8") as metrics, closing(Events(out, done)) as events:
            yield Reporter(shown, metrics, events)


def _under(group: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{group}/{name}": value for name, value in values.items()}


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
        points = [(line["step"], line[name]) for line in steps if name in line]
        if points:
            loss.plot(*zip(*points, strict=True), label=name, linewidth=1)
    rate.plot([line["step"] for line in steps], [line["lr"] for line in steps])
    accuracy.plot([line["epoch"] for line in epochs], [100 * line[measure] for line in epochs], marker="o")
    for axes, title, below in ((loss, "loss", "step"), (rate, "learning rate", "step"), (accuracy, measure, "epoch")):
        axes.set_title(title.replace("_", " ") + (", %" if axes is accuracy and measure else ""))
        axes.set_xlabel(below)
    if steps:
        loss.legend()
    figure.savefig(out / PLOT, dpi=120)
