"""Curves of a run, to look at: TensorBoard's events while it goes on, and a picture at its end."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from groundcli.data.images import decode
from groundcli.data.sample import Sample
from groundcli.errors import BadInput
from groundcli.grounder import Grounder
from groundcli.model.grounding_model import GroundingModel
from groundcli.options import Precision
from groundcli.output.overlays import draw
from groundcli.training.run_folder import METRICS

EVENTS, PLOT = "tensorboard", "curves.png"
SHOWN = 4  # validation images, the same ones in every epoch


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
