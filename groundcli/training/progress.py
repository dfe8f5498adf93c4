"""What a person sees of a training run: a bar, lines, TensorBoard's events and, at its end, a picture of the curves."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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


class Bar(Progress):
    """Shows steps, a note, examples per second and time left; and lines that stay above them."""

    def __init__(self, console: Console, steps: int, done: int, batch_size: int):
        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=20), TextColumn("{task.fields[note]}"))
        super().__init__(
            *columns, TextColumn("left"), TimeRemainingColumn(), console=console, speed_estimate_period=120
        )
        self._batch_size = batch_size
        self._task = self.add_task("", total=steps, completed=done, note="")

    def step(self, note: str) -> None:
        """One more step done."""
        rate = self._batch_size * (self.tasks[0].speed or 0)
        self.update(self._task, advance=1, note=f"{note}  {rate:.0f} examples/s")

    def line(self, text: str) -> None:
        """A line to keep."""
        self.console.print(text, markup=False, soft_wrap=True)


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

    def __init__(self, bar: Bar, metrics: IO[str] | None = None, events: Events | None = None):
        self.events = events
        self.line = bar.line
        self._bar = bar
        self._metrics = metrics
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
        if self.events:
            self.events.scalars({"train/loss": loss, "train/lr": rate, **_under("train", terms)}, step)
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
        curves = _under("epoch", terms)
        if judge and measured is not None:
            curves[f"validation/{judge.name}"] = measured
            title = f", {judge.title} {100 * measured:.2f} %"
            self._best = f"  best {measured:.2%}" if better else self._best
        if self.events:
            self.events.scalars(curves, step)
        best = ", the best" if better else ""
        self.line(f"epoch {epoch}: loss {loss:.4f}{title}{best}; data wait {self._wait:.1%}")

    def _write(self, line: Mapping[str, object]) -> None:
        if self._metrics:
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()

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
        with (out / METRICS).open("a", encoding="utf-8") as metrics, closing(Events(out, done)) as events:
            yield Reporter(bar, metrics, events)


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
