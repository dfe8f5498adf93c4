"""Training on image-caption pairs: no box is ever read, but to choose the best epoch on validation data.

groundcli train --dataset flickr30k --data flickr30k/ --out runs/lite                  one CPU or GPU
torchrun --nproc-per-node 8 -m groundcli train --dataset ... --out runs/lite           several
groundcli train ... --resume                                                           after it was stopped or killed
"""

import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import nn

import groundcli
from groundcli import checkpoint
from groundcli.data.sample import Sample
from groundcli.errors import GroundcliError, Interrupted, UsageError
from groundcli.interrupts import interruptible
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.precision import Precision
from groundcli.recipe import Recipe
from groundcli.training.average import Average
from groundcli.training.curves import plot
from groundcli.training.feature_cache import CachedFeatures
from groundcli.training.features import FeatureSource, LiveFeatures, Preparation
from groundcli.training.finetune import Part, choose_trained
from groundcli.training.gradient import add_gradient
from groundcli.training.pairs import Batch, Pairs
from groundcli.training.progress import Reporter, report
from groundcli.training.ranks import joined
from groundcli.training.run_folder import (
    LAST,
    METRICS,
    describe,
    keep_metrics,
    load_state,
    lock,
    restore_random,
    save_state,
)
from groundcli.training.schedule import SCHEDULES
from groundcli.training.validation import Judge, Pairing, Pointing
from groundcli.weights.files import BEST
from groundcli.weights.load import UNTRAINED, ElmoBackend, Loaded, new_model

NAMES = 5  # of images, that an error shows


@dataclass(frozen=True)
class SaveEvery:
    """When the state is saved within an epoch, beside its end: a save takes a second, what comes after it may be lost.

    Attributes:
        minutes, steps: whichever is over first; 0 is never.
    """

    minutes: float = 10
    steps: int = 0

    def due(self, step: int, saved: float) -> bool:
        """Whether to save after a step, where the last save was at the time `saved` of `time.monotonic`."""
        return bool(self.steps and step % self.steps == 0) or bool(
            self.minutes and time.monotonic() - saved > 60 * self.minutes
        )


class Start(NamedTuple):
    """A trained model to go on from, and the part of it that learns."""

    loaded: Loaded
    part: Part


class Outcome(NamedTuple):
    """The best measure on validation data, and that of the model before, fractions; nan where nothing was measured."""

    best: float
    before: float
    title: str


def parse_save_every(text: str) -> SaveEvery:
    """ "10m" is every ten minutes, "500" every 500 steps. Raises UsageError for anything else."""
    match = re.fullmatch(r"(\d+)(m?)", text)
    if not match or not int(match[1]):
        raise UsageError(f"--save-every {text}: expected minutes such as 10m, or a number of steps")
    return SaveEvery(minutes=int(match[1])) if match[2] else SaveEvery(minutes=0, steps=int(match[1]))


def train(
    recipe: Recipe,
    samples: Sequence[Sample],
    validation: Sequence[Sample],
    out: Path,
    *,
    cache: Path | None,
    device: torch.device,
    resume: bool,
    console: Console,
    source: str,
    precision: Precision = "auto",
    untrained: bool = False,
    elmo_backend: ElmoBackend = "groundcli",
    save_every: SaveEvery = SaveEvery(),
    start: Start | None = None,
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> Outcome:
    """Trains a recipe and writes `best.safetensors`, `last.safetensors` and `metrics.jsonl` into a folder.

    Args:
        recipe: the model and its training.
        samples: images with captions; marks and boxes, if any, are not looked at.
        validation: images to choose the best epoch by, by their boxes where they have any; without images, the last
            epoch counts as the best.
        out: the run's folder.
        cache: folder of cached features; default is one in the run's folder where the recipe caches them, else none.
        device: where to train; `cuda` is a GPU a rank.
        resume: go on with the run in `out`, exactly where its last state was saved.
        console: where progress is shown.
        source: what the model learned from, for the checkpoint's metadata.
        precision: of convolutions and matrix products.
        untrained: draw the frozen CNN and ELMo at random instead of loading their weights, and mark the checkpoint so.
        elmo_backend: whose code runs an ELMo.
        save_every: when the state is saved within an epoch.
        start: a model of this recipe to go on from, in place of random mappings; where no epoch is better on the
            validation data, it stays the best.
        arguments: of the command, for `run.json`.

    Raises:
        UsageError: the run exists and `resume` isn't given, or was made by another recipe or on other data.
        GroundcliError: fewer usable pairs than a batch, a loss that isn't a number, a full disk.
        Interrupted: by Ctrl-C or SIGTERM, after the state was saved.
    """
    config, settings = recipe.model, recipe.training
    with joined(device) as (ranks, device), interruptible() as stopped:
        console.quiet = console.quiet or not ranks.first
        if (out / LAST).exists() and not resume:
            raise UsageError(f"{out} holds a run already: add --resume to go on with it, or name another folder")
        _check_enough(len(samples), settings.batch_size)
        held = lock(out) if ranks.first else None
        torch.manual_seed(settings.seed)
        model, frozen = new_model(config, settings.seed if untrained else None, elmo_backend)
        model.to(device)
        if start:
            model.load_trained(start.loaded.model.trained())
            choose_trained(model, start.part)

        def features(of: Sequence[Sample], how: Preparation) -> FeatureSource:
            if not (cache or settings.cache_features):
                return LiveFeatures(of, model.backbone, how.image_size)
            weights = frozen[config.visual.weights]
            found = CachedFeatures(of, model.backbone, weights, how, cache or out / "features")
            found.check_room()
            found.complete(ranks, stopped, console)
            return found

        in_use = Preparation(config.visual.image_size, config.visual.grid)
        learning = Preparation(settings.image_size or in_use.image_size, settings.grid or in_use.grid)
        pairs = Pairs(samples, features(samples, learning))
        judge = _judge(validation, features(validation, in_use)) if validation and settings.validate_every else None
        _check_enough(len(pairs.rows), settings.batch_size)
        optimizer = _optimizer(model, settings.weight_decay)
        per_epoch = len(pairs.rows) // settings.batch_size
        steps = per_epoch * settings.epochs
        state: dict[str, Any] = {
            "recipe": recipe.to_dict(),
            "frozen": frozen,
            "source": source,
            "version": groundcli.__version__,
            "data": pairs.digest,
            "epoch": 0,  # whole ones, validation included
            "batch": 0,  # of the epoch, that are done
            "sums": {},  # of the loss's terms over them
            "accuracy": None,
            "best": None,
            "before": None,
            "stale": 0,  # validations since the best one
            "vocabulary": sorted(pairs.vocabulary.union(start.loaded.metadata.get("vocabulary", ()) if start else ())),
        }
        if untrained:
            state[UNTRAINED] = settings.seed
        found = load_state(out, lambda line: console.print(line, markup=False, soft_wrap=True)) if resume else None
        if found:
            tensors, before = found
            for key, what in (
                ("recipe", "by another recipe"),
                ("frozen", "on other frozen weights"),
                ("data", "on other data"),
            ):
                if before.get(key) != state[key]:
                    raise UsageError(f"{out}: was trained {what}; name another folder")
            model.load_trained(checkpoint.part("model", tensors))
            checkpoint.restore_optimizer(optimizer, checkpoint.part("optimizer", tensors))
            restore_random(tensors)
            state = before
        elif start:
            state["before"] = state["best"] = judge(model, ranks, precision, stopped) if judge else None
            if ranks.first:
                checkpoint.save(out / BEST, checkpoint.prefixed("model", model.trained()), state)
        else:
            _calibrate(model, pairs, settings.batch_size)
        average = Average(model, settings.ema)
        if found:
            average.load(checkpoint.part("average", tensors))
        step = state["epoch"] * per_epoch + state["batch"]
        if ranks.first:
            keep_metrics(out / METRICS, step)
            counts = {"images": len(pairs.rows), "validation_images": len(validation), "steps": steps}
            describe(out, arguments, state, counts, device, ranks.count)

        def save() -> None:
            if ranks.first:
                weights = checkpoint.prefixed("model", model.trained())
                save_state(out, weights | checkpoint.prefixed("average", average.tensors), optimizer, state)

        told: set[tuple[str, str]] = set()
        saved = time.monotonic()
        with report(console, out, steps, step, settings.batch_size, ranks.first) as reporter:
            try:
                for epoch in range(state["epoch"], settings.epochs):
                    if settings.patience and state["stale"] >= settings.patience:
                        reporter.line(f"stopped early: {state['stale']} validations without a better one")
                        break
                    model.train()
                    sums = Counter(state["sums"])
                    arrived = time.perf_counter()
                    for batch in pairs.batches(
                        settings.batch_size, settings.seed, epoch, state["batch"], ranks, settings.accumulate
                    ):
                        rate = SCHEDULES[settings.schedule](step, steps, settings.learning_rate, settings.warmup)
                        for group in optimizer.param_groups:
                            group["lr"] = rate
                        terms: dict[str, float] = {}
                        if len(batch.names) > 1:  # an image alone has no negatives
                            optimizer.zero_grad()
                            terms = add_gradient(model, batch, learning.grid, ranks, precision)
                            _check_finite(terms, batch, epoch, out)
                            if settings.clip_norm:
                                nn.utils.clip_grad_norm_(
                                    (p for p in model.parameters() if p.requires_grad), settings.clip_norm
                                )
                            optimizer.step()
                            average.update(model, step + 1)
                            sums.update({**terms, "steps": 1})
                        step += 1
                        state |= {"batch": state["batch"] + 1, "sums": dict(sums)}
                        now = time.perf_counter()
                        reporter.step(step, epoch + 1, terms, rate, now - arrived, pairs.features.waited)
                        arrived = now
                        if any(ranks.gather(stopped())):
                            raise Interrupted("interrupted")
                        if save_every.due(step, saved):
                            save()
                            saved = time.monotonic()
                    _tell_failures(pairs, told, reporter)
                    if not sums:
                        raise GroundcliError(
                            f"none of the {len(samples)} images can be decoded: {pairs.features.failures[0][1]}"
                        )
                    due = judge and ((epoch + 1) % settings.validate_every == 0 or epoch + 1 == settings.epochs)
                    with average.in_place(model):
                        accuracy = judge(model, ranks, precision, stopped) if judge and due else None
                        best = -1 if state["best"] is None else state["best"]
                        better = judge is None or (accuracy is not None and accuracy > best)
                        state |= {"epoch": epoch + 1, "batch": 0, "sums": {}, "accuracy": accuracy}
                        state |= {"best": accuracy, "stale": 0} if better else {"stale": state["stale"] + bool(due)}
                        if better and ranks.first:
                            checkpoint.save(out / BEST, checkpoint.prefixed("model", model.trained()), state)
                        if due and reporter.events:
                            reporter.events.overlays(model, validation, precision, step)
                    save()
                    saved = time.monotonic()
                    reporter.epoch(step, epoch + 1, sums, judge, accuracy, better)
            except Interrupted as error:
                save()
                done = f"after {state['epoch']} epochs and {state['batch']} of {per_epoch} steps"
                raise Interrupted(f"{error} {done}; go on with the same command and --resume") from None
        if held:
            plot(out)
            held.release()
    best, first = (math.nan if value is None else float(value) for value in (state["best"], state["before"]))
    return Outcome(best, first, judge.title if judge else "")


def _judge(validation: Sequence[Sample], features: FeatureSource) -> Judge:
    boxed = any(phrase.boxes for sample in validation for caption in sample.captions for phrase in caption.phrases)
    return Pointing(validation, features) if boxed else Pairing(validation, features)


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


def _tell_failures(pairs: Pairs, told: set[tuple[str, str]], reporter: Reporter) -> None:
    for path, reason in sorted(set(pairs.features.failures) - told):
        reporter.line(f"skipped {path}: {reason}")
        told.add((path, reason))


def _optimizer(model: GroundingModel, weight_decay: float) -> torch.optim.Optimizer:
    """Adam; L2 on the mapping's convolutions alone, as in the paper."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    decayed = [p for n, p in named.items() if n.startswith("visual_mapping.") and n.endswith("weight")]
    others = [p for n, p in named.items() if not (n.startswith("visual_mapping.") and n.endswith("weight"))]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": weight_decay}, {"params": others}]
    return torch.optim.Adam(groups)


def _calibrate(model: GroundingModel, pairs: Pairs, batch_size: int) -> None:
    """Brings the levels to one size, as the first batch that can be decoded shows them."""
    rows = pairs.rows
    for batch in pairs.features.read(rows[i : i + batch_size] for i in range(0, len(rows), batch_size)):
        if batch.rows:
            model.visual_mapping.calibrate(batch.maps)
            return
