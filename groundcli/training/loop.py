"""Training on image-caption pairs: no box is ever read, but to choose the best epoch on validation data.

groundcli train --dataset flickr30k --data flickr30k/ --out runs/lite                  one CPU or GPU
torchrun --nproc-per-node 8 -m groundcli train --dataset ... --out runs/lite           several
groundcli train ... --resume                                                           after it was stopped or killed
"""

import math
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import groundcli
from groundcli.data.sample import Sample
from groundcli.errors import GroundcliError, Interrupted, UsageError
from groundcli.files import locked
from groundcli.model.grounding_model import GroundingModel
from groundcli.parallel import Stopped, interruptible
from groundcli.recipe import Recipe, TrainingConfig
from groundcli.training.curves import plot
from groundcli.training.feature_cache import CachedFeatures
from groundcli.training.features import FeatureSource, LiveFeatures, Preparation
from groundcli.training.finetune import Part, choose_trained
from groundcli.training.gradient import add_gradient
from groundcli.training.options import RunOptions
from groundcli.training.pairs import Batch, Pairs
from groundcli.training.progress import Reporter, report
from groundcli.training.ranks import Ranks, joined
from groundcli.training.run_folder import LAST, METRICS, check_folder, describe, has_state, keep_metrics
from groundcli.training.schedule import SCHEDULES
from groundcli.training.sources import Data
from groundcli.training.state import RunState
from groundcli.training.validation import Judge, judge_by
from groundcli.weights.load import UNTRAINED, Loaded, new_model

NAMES = 5  # of images, that an error shows


class Start(NamedTuple):
    """A trained model to go on from, and the part of it that learns."""

    loaded: Loaded
    part: Part


class Outcome(NamedTuple):
    """The best measure on validation data, and that of the model before, fractions; nan where nothing was measured."""

    best: float
    before: float
    title: str


def train(
    recipe: Recipe, data: Data, options: RunOptions, *, untrained: bool = False, start: Start | None = None
) -> Outcome:
    """Trains a recipe and writes `best.safetensors`, `last.safetensors` and `metrics.jsonl` into a folder.

    Args:
        recipe: the model and its training.
        data: images with captions; marks and boxes of those to learn from, if any, are not looked at. The best epoch
            is chosen by boxes of the validation images where they have any; without such images the last one is best.
        options: where and how.
        untrained: draw the frozen CNN and ELMo at random instead of loading their weights, and mark the checkpoint so.
        start: a model of this recipe to go on from, in place of random mappings; where no epoch is better on the
            validation data, it stays the best.

    Raises:
        UsageError: the run exists and `resume` isn't given, or was made by another recipe or on other data.
        GroundcliError: fewer usable pairs than a batch, a loss that isn't a number, a full disk.
        Interrupted: by Ctrl-C or SIGTERM, after the state was saved.
    """
    out, console, batch_size = options.out, options.console, recipe.training.batch_size
    with joined(options.device) as (ranks, device), interruptible() as stopped:
        console.quiet = console.quiet or not ranks.first
        check_folder(out, options.resume)
        _check_enough(len(data.samples), batch_size)
        with locked(out) if ranks.first else nullcontext():
            run = _set_up(recipe, data, replace(options, device=device), ranks, stopped, untrained, start)
            resumed = options.resume and run.state.restore(out, lambda line: console.print(line, markup=False))
            if start and not resumed:
                run.measure_before()
            if ranks.first:
                keep_metrics(out / METRICS, run.step)
                counts = {"images": len(run.pairs.rows), "validation_images": len(data.validation), "steps": run.steps}
                describe(out, options.arguments, run.state.values, counts, device, ranks.count)
            with report(console, out, run.steps, run.step, batch_size, ranks.first) as reporter:
                run.epochs(reporter)
            if ranks.first:
                plot(out)
    best, before = (math.nan if v is None else float(v) for v in (run.state.values[key] for key in ("best", "before")))
    return Outcome(best, before, run.judge.title if run.judge else "")


def _set_up(
    recipe: Recipe,
    data: Data,
    options: RunOptions,
    ranks: Ranks,
    stopped: Stopped,
    untrained: bool,
    start: Start | None,
) -> "_Run":
    """The model, its optimizer, and the features of all images, which are computed here where they are kept."""
    settings, visual = recipe.training, recipe.model.visual
    if settings.mirror and (options.cache or settings.cache_features):
        raise UsageError(
            "training.mirror needs the CNN in every epoch: add --set training.cache_features=false, and leave out "
            "--cache-features"
        )
    torch.manual_seed(settings.seed)
    model, frozen = new_model(recipe.model, settings.seed if untrained else None)
    model.to(options.device)
    if start:
        model.load_trained(start.loaded.model.trained())
        choose_trained(model, start.part)

    def features(samples: Sequence[Sample], preparation: Preparation) -> FeatureSource:
        if not (options.cache or settings.cache_features):
            return LiveFeatures(samples, model.backbone, preparation.image_size)
        folder = options.cache or options.out / "features"
        kept = CachedFeatures(samples, model.backbone, frozen[visual.weights], preparation, folder)
        kept.complete(ranks, stopped, options.console)
        return kept

    in_use = Preparation(visual.image_size, visual.grid)
    learning = Preparation(settings.image_size or in_use.image_size, settings.grid or in_use.grid)
    pairs = Pairs(data.samples, data.weights, features(data.samples, learning))
    judged = data.validation and settings.validate_every
    judge = judge_by(data.validation, features(data.validation, in_use)) if judged else None
    _check_enough(pairs.drawn, settings.batch_size)
    if not start and not has_state(options.out):
        _calibrate(model, pairs, settings.batch_size)
    known = start.loaded.metadata.get("vocabulary", ()) if start else ()
    made_of = {
        "recipe": recipe.to_dict(),
        "frozen": frozen,
        "source": data.source,
        "version": groundcli.__version__,
        "data": pairs.digest,
        "vocabulary": sorted(pairs.vocabulary.union(known)),
    }
    state = RunState(model, settings, made_of | ({UNTRAINED: settings.seed} if untrained else {}))
    return _Run(settings, options, ranks, stopped, pairs, learning.grid, data.validation, judge, state)


@dataclass
class _Run:
    """A run under way: what it learns from, what it keeps, and who takes part."""

    settings: TrainingConfig
    options: RunOptions
    ranks: Ranks
    stopped: Stopped
    pairs: Pairs
    grid: int  # cells a side, in training
    validation: Sequence[Sample]
    judge: Judge | None
    state: RunState
    saved: float = field(default_factory=time.monotonic)
    told: set[tuple[str, str]] = field(default_factory=set)  # images that can't be used

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.pairs.drawn // self.settings.batch_size

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.per_epoch * self.settings.epochs

    @property
    def step(self) -> int:
        """Those that are done."""
        return int(self.state.values["epoch"] * self.per_epoch + self.state.values["batch"])

    def measure_before(self) -> None:
        """The model to go on from is the best so far."""
        values = self.state.values
        values["before"] = values["best"] = self._measure() if self.judge else None
        if self.ranks.first:
            self.state.save_best(self.options.out)

    def epochs(self, reporter: Reporter) -> None:
        """All that are left. Raises Interrupted, after the state was saved."""
        values, patience = self.state.values, self.settings.patience
        try:
            while values["epoch"] < self.settings.epochs:
                if patience and values["stale"] >= patience:
                    reporter.line(f"stopped early: {values['stale']} validations without a better one")
                    break
                self._learn(reporter)
                self._validate(reporter)
        except Interrupted as error:
            self._save()
            done = f"after {values['epoch']} epochs and {values['batch']} of {self.per_epoch} steps"
            raise Interrupted(f"{error} {done}; go on with the same command and --resume") from None

    def _learn(self, reporter: Reporter) -> None:
        """The steps of an epoch that are left."""
        settings, values = self.settings, self.state.values
        self.state.model.train()
        arrived, waited = time.perf_counter(), self.pairs.features.waited
        position = settings.seed, values["epoch"], values["batch"]
        for batch in self.pairs.batches(
            settings.batch_size, *position, self.ranks, settings.accumulate, settings.mirror
        ):
            rate = SCHEDULES[settings.schedule](self.step, self.steps, settings.learning_rate, settings.warmup)
            terms = self._update(batch, rate) if len(batch.names) > 1 else {}  # an image alone has no negatives
            if terms:
                sums = Counter(values["sums"])
                sums.update({**terms, "steps": 1})
                values["sums"] = dict(sums)
            values["batch"] += 1
            now, sofar = time.perf_counter(), self.pairs.features.waited
            reporter.step(self.step, values["epoch"] + 1, terms, rate, now - arrived, sofar - waited)
            arrived, waited = now, sofar
            if any(self.ranks.gather(self.stopped())):
                raise Interrupted("interrupted")
            if self.options.save_every.due(self.step, self.saved):
                self._save()
        for path, reason in sorted(set(self.pairs.features.failures) - self.told):
            reporter.line(f"skipped {path}: {reason}")
        self.told.update(self.pairs.features.failures)
        if not values["sums"]:
            reason = self.pairs.features.failures[0][1]
            raise GroundcliError(f"none of the {len(self.pairs.names)} images can be decoded: {reason}")

    def _update(self, batch: Batch, rate: float) -> dict[str, float]:
        """One step of the optimizer, at a learning rate; returns the terms of the loss."""
        model, optimizer = self.state.model, self.state.optimizer
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        terms = add_gradient(model, batch, self.grid, self.ranks, self.options.precision)
        _check_finite(terms, batch, self.state.values["epoch"], self.options.out)
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), self.settings.clip_norm)
        optimizer.step()
        self.state.average.update(model, self.step + 1)
        return terms

    def _validate(self, reporter: Reporter) -> None:
        """Ends an epoch: measures the model where that is due, and saves it."""
        values, settings = self.state.values, self.settings
        sums, epoch, step = values["sums"], values["epoch"] + 1, self.step
        due = bool(self.judge) and (epoch % settings.validate_every == 0 or epoch == settings.epochs)
        with self.state.average.in_place(self.state.model):
            accuracy = self._measure() if due else None
            best = -1 if values["best"] is None else values["best"]
            better = self.judge is None or (accuracy is not None and accuracy > best)
            values |= {"epoch": epoch, "batch": 0, "sums": {}, "accuracy": accuracy}
            values |= {"best": accuracy, "stale": 0} if better else {"stale": values["stale"] + due}
            if better and self.ranks.first:
                self.state.save_best(self.options.out)
            if due and reporter.events:
                reporter.events.overlays(self.state.model, self.validation, self.options.precision, step)
        self._save()
        reporter.epoch(step, epoch, sums, self.judge, accuracy, better)

    def _measure(self) -> float:
        assert self.judge
        return self.judge(self.state.model, self.ranks, self.options.precision, self.stopped)

    def _save(self) -> None:
        if self.ranks.first:
            self.state.save(self.options.out)
        self.saved = time.monotonic()


def _check_enough(images: int, batch_size: int) -> None:
    if images < batch_size:
        raise GroundcliError(
            f"{images} images with captions are fewer than a batch of {batch_size}; give more, or add "
            "--set training.batch_size=NUMBER"
        )


def _check_finite(terms: dict[str, float], batch: Batch, epoch: int, out: Path) -> None:
    """Raises GroundcliError, with the batch's images, where the loss isn't a number; no weight has changed yet."""
    if all(map(math.isfinite, terms.values())):
        return
    listed = out / "not_a_number.txt"
    listed.write_text("".join(f"{name}\n" for name in batch.names), "utf-8")
    raise GroundcliError(
        f"the loss is not a number in epoch {epoch + 1}, on {', '.join(batch.names[:NAMES])}"
        f"{', ...' if len(batch.names) > NAMES else ''} (all in {listed}); the last good checkpoint is {out / LAST}; "
        "look at these images, or add --set training.learning_rate=NUMBER with a lower one"
    )


def _calibrate(model: GroundingModel, pairs: Pairs, batch_size: int) -> None:
    """Brings the levels to one size, as the first batch that can be decoded shows them."""
    rows = pairs.rows
    for batch in pairs.features.read(rows[i : i + batch_size] for i in range(0, len(rows), batch_size)):
        if batch.rows:
            model.visual_mapping.calibrate(batch.maps)
            return
