"""Training on image-caption pairs: no box is ever read, but to choose the best epoch on validation data.

groundcli train --dataset flickr30k --data flickr30k/ --out runs/lite                  one CPU or GPU
torchrun --nproc-per-node 8 -m groundcli train --dataset ... --out runs/lite           several
groundcli train ... --resume                                                           after it was stopped or killed
groundcli finetune photos/ --from lite --out runs/mine                                 from trained weights on
"""

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn

import groundcli
from groundcli import checkpoint
from groundcli.data import Sample
from groundcli.devices import torch_device
from groundcli.errors import GroundcliError, Interrupted, UsageError
from groundcli.files import locked
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.visual import Backbone
from groundcli.parallel import Stopped, interruptible
from groundcli.recipe import Recipe, load_recipe, override, recipe_from
from groundcli.training import FinetuneOptions, LearningOptions, TrainOptions
from groundcli.training.data import Data, Pairs, check, load, unseen_words, vocabulary
from groundcli.training.features import CachedFeatures, LiveFeatures, Preparation
from groundcli.training.gradient import Batch, Ranks, add_gradient, joined
from groundcli.training.presence import learn_presence
from groundcli.training.progress import Reporter, plot, report
from groundcli.training.state import LAST, RunState, check_folder, choose_trained, describe, has_state, keep_metrics
from groundcli.training.validation import Judge, judge_by
from groundcli.weights.load import UNTRAINED, Loaded, load_model, new_model
from groundcli.weights.store import BEST

NAMES = 5  # of images, that an error shows
SHOWN = 10  # words that a warning shows
BATCH_SIZE = "training.batch_size="
STEPS, SMALL = 8, 16  # of few images an epoch has so many steps, as long as batches have so many images to tell apart
GENTLER = 10  # the rate of finetuning is so much lower than that of training: most was learned already


class Outcome(NamedTuple):
    """What a run came to."""

    weights: Path  # the file of the best epoch's model
    best: float  # measure on validation data, a fraction; nan where nothing was measured
    before: float  # that of the model to begin with; nan where it was untrained
    title: str  # of the measure, for people; "" where nothing was measured
    kept: int  # images that it was measured on


def train(options: TrainOptions, console: Console) -> Outcome:
    """Trains a recipe and writes `best.safetensors`, `last.safetensors` and `metrics.jsonl` into a folder.

    Marks and boxes of the images to learn from, if any, are not looked at. The best epoch is chosen by boxes of the
    validation images where they have any; without such images the last one is best. The console shows progress.

    Raises:
        UsageError: the run exists and isn't to be resumed, or was made by another recipe or on other data.
        GroundcliError: fewer than two usable pairs, a loss that isn't a number, a full disk.
        Interrupted: by Ctrl-C or SIGTERM, after the state was saved.
    """
    recipe, tell = load_recipe(options.recipe, options.settings), partial(console.print, markup=False)
    check_folder(options.out, options.resume)
    data = load(options, tell, validate=bool(recipe.training.validate_every))
    check(data, options, "to choose the best epoch by", tell)
    return _run(options, recipe, data, console)


def finetune(options: FinetuneOptions, console: Console) -> Outcome:
    """Goes on learning from trained weights, on other images, at a tenth of their learning rate.

    A tenth of a folder's images is kept aside, of a data set its split "val": they choose the best epoch, and the model
    stays as it was where none is better. Arguments and errors are as of `train`.
    """
    tell = partial(console.print, markup=False)
    check_folder(options.out, options.resume)
    loaded = load_model(options.start, options.settings)
    trained = recipe_from(loaded.metadata["recipe"], str(loaded.path))
    rate = f"training.learning_rate={trained.training.learning_rate / GENTLER}"
    recipe = override(trained, [rate, "training.tuning.epochs=0", *options.settings], str(loaded.path))
    data = load(options, tell, aside=recipe.training.seed)
    check(data, options, "kept aside to compare by", tell)
    unseen = unseen_words(data.samples, vocabulary(loaded))
    if unseen:
        words = ", ".join(f"{word} ({count})" for word, count in unseen[:SHOWN])
        more = f" and {len(unseen) - SHOWN} more" if len(unseen) > SHOWN else ""
        tell(f"words that {loaded.name} has never seen: {words}{more}")
    choose_trained(loaded.model, options.train)
    return _run(options, recipe, data._replace(source=f"{loaded.name}, then {data.source}"), console, loaded)


def _run(
    options: LearningOptions, recipe: Recipe, data: Data, console: Console, start: Loaded | None = None
) -> Outcome:
    """What both have in common: the whole run, among the processes that make it together."""
    out = options.out
    with joined(torch_device(options.device)) as (ranks, device), interruptible() as stopped:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out) if ranks.first else nullcontext():
            run = _Run(options, recipe, data, console, device, ranks, stopped, start)
            values = run.state.values
            if options.resume and run.state.restore(out, partial(console.print, markup=False)):
                values = run.state.values
                run.find_best()
            elif start:  # the model to go on from is the best so far
                values["before"] = values["best"] = run.measure() if run.judge else None
                run.save_best()
            if ranks.first:
                keep_metrics(out, run.step, values["epoch"])
                counts = {"images": len(run.pairs.indices), "validation_images": len(data.validation)}
                describe(options, run.state, counts | {"steps": run.steps}, device, ranks)
            with report(console, out, run.steps, run.step, run.settings.batch_size, ranks.first) as reporter:
                run.learn(reporter)
            run.learn_presence()
            if ranks.first:
                plot(out)
    best, before = (math.nan if values[key] is None else float(values[key]) for key in ("best", "before"))
    return Outcome(out / BEST, best, before, run.judge.title if run.judge else "", len(data.validation))


class _Run:
    """A run under way: what it learns from, what it keeps, and who takes part."""

    def __init__(
        self,
        options: LearningOptions,
        recipe: Recipe,
        data: Data,
        console: Console,
        device: torch.device,
        ranks: Ranks,
        stopped: Stopped,
        start: Loaded | None,
    ):
        """Makes the model, its optimizer, and the features of all images, which are computed here if they are kept."""
        self.options, self.data, self.console, self.ranks, self.stopped = options, data, console, ranks, stopped
        settings, visual = recipe.training, recipe.model.visual
        self.cache = options.cache_features or (options.out / "features" if settings.cache_features else None)
        if settings.mirror and self.cache:
            raise UsageError(
                "training.mirror needs the backbone in every epoch: add --set training.cache_features=false, and leave "
                "out --cache-features"
            )
        torch.manual_seed(settings.seed)
        untrained = settings.seed if isinstance(options, TrainOptions) and options.untrained else None
        if start:
            model, frozen = start.model, dict(start.metadata["frozen"])
            untrained = start.metadata.get(UNTRAINED)
        else:
            model, frozen = new_model(recipe.model, untrained)
        model.to(device)
        self.weights = frozen[visual.weights]
        self.stages: Callable[[Tensor], list[Tensor]] | None = None  # those that are tuned, once they learn
        self.in_use = Preparation(visual.image_size, visual.grid)
        learning = Preparation(settings.image_size or visual.image_size, settings.grid or visual.grid)
        self.grid = learning.grid  # cells per side, in training
        tuned = _digest_of_stages(model) if start else ""  # they give other maps than the frozen weights
        self.pairs = Pairs(data.samples, data.weights, self._features(data.samples, model.backbone, learning, tuned))
        self.judge: Judge | None = None
        if data.validation and settings.validate_every:
            self.judge = judge_by(data.validation, self._features(data.validation, model.backbone, self.in_use, tuned))
        chosen = any(text.startswith(BATCH_SIZE) for text in options.settings)
        recipe = _with_fitting_batch(recipe, self.pairs, chosen, console)
        self.settings = settings = recipe.training
        self.per_epoch = self.pairs.drawn // settings.batch_size  # steps
        self.epochs = settings.epochs + settings.tuning.epochs
        self.steps = self.per_epoch * self.epochs  # of the whole run
        if not start and not has_state(options.out):
            self._set_scale(model)
        known = start.metadata.get("vocabulary", ()) if start else ()
        made_of: dict[str, Any] = {
            "recipe": recipe.to_dict(),
            "frozen": frozen,
            "source": data.source,
            "version": groundcli.__version__,
            "data": self.pairs.digest,
            "vocabulary": sorted(self.pairs.vocabulary.union(known)),
        }
        if untrained is not None:
            made_of[UNTRAINED] = untrained
        self.state = RunState(model, settings, made_of)
        self.saved = time.monotonic()
        self.told: set[tuple[str, str]] = set()  # images that can't be used

    def _features(
        self, samples: Sequence[Sample], backbone: Backbone, how: Preparation, tuned: str, mirrored: bool = False
    ) -> LiveFeatures:
        """Features of images, all computed by now where they are kept; `tuned` is the hash of tuned stages."""
        if not self.cache:
            return LiveFeatures(samples, backbone, how)
        kept = CachedFeatures(samples, backbone, how, self.weights + tuned, self.cache, mirrored)
        kept.complete(self.ranks, self.stopped, self.console)
        return kept

    def _set_scale(self, model: GroundingModel) -> None:
        """Brings the levels to one size, as the first batch that can be decoded shows them."""
        indices, size = self.pairs.indices, self.settings.batch_size
        batches = self.pairs.features.read(indices[i : i + size] for i in range(0, len(indices), size))
        first = next((batch for batch in batches if batch.indices), None)
        if first:
            model.visual_mapping.set_scale(first.maps)

    @property
    def step(self) -> int:
        """Those that are done."""
        return int(self.state.values["epoch"] * self.per_epoch + self.state.values["batch"])

    def measure(self) -> float:
        """How good the model is by now, see `Judge`."""
        assert self.judge
        return self.judge.measure(self.state.model, self.ranks, self.options.precision, self.stopped)

    def save_best(self) -> None:
        """The model is the best one so far."""
        if self.ranks.first:
            self.state.save_best(self.options.out)

    def find_best(self) -> None:
        """The best epoch's model has to be there once an epoch was; the last state takes its place where it is lost."""
        values, lost = self.state.values, ""
        if self.ranks.first and (values["best"] is not None or (values["epoch"] and not self.judge)):
            try:
                checkpoint.load_trained(self.options.out / BEST)
            except GroundcliError as error:
                lost = str(error)
        if not any(self.ranks.gather(lost)):
            return
        values["best"] = None  # the next measure is better than an unknown one
        if self.ranks.first:
            self.console.print(f"{lost}; the last state takes its place until an epoch is better", markup=False)
        with self.state.averaged():
            self.save_best()

    def learn(self, reporter: Reporter) -> None:
        """The loop, from wherever the state is to the last epoch. Raises Interrupted, after the state was saved."""
        try:
            self._loop(reporter)
        except Interrupted as error:
            self._save()
            values = self.state.values
            done = f"after {values['epoch']} epochs and {values['batch']} of {self.per_epoch} steps"
            raise Interrupted(f"{error} {done}; go on with the same command and --resume") from None

    def learn_presence(self) -> None:
        """What comes last: the best epoch's model learns which words are in an image, where it doesn't know yet.

        Raises Interrupted; the run has its `best.safetensors` by then, and `--resume` comes back to here.
        """
        best, model, console = self.options.out / BEST, self.state.model, self.console if self.ranks.first else None
        self.ranks.gather(None)  # the first rank has written it
        tensors, values = checkpoint.load_trained(best)
        model.load_trained(tensors)
        if model.presence or model.config.calibration:  # which was fitted without it
            return
        model.eval()
        features, captions = LiveFeatures(self.data.samples, model.backbone, self.in_use), self.pairs.captions
        how = (self.settings.seed, self.ranks, self.options.precision, self.stopped, console)
        try:
            learned = learn_presence(model, features, captions, *how)
        except Interrupted as error:
            raise Interrupted(f"{error} after the last epoch; go on with the same command and --resume") from None
        if learned and self.ranks.first:
            checkpoint.save(best, checkpoint.prefixed("model", model.trained()), values)

    def _loop(self, reporter: Reporter) -> None:
        settings, values = self.settings, self.state.values
        seconds, steps = self.options.save_interval
        while values["epoch"] < self.epochs:
            if self.stages is None and values["epoch"] >= settings.epochs:
                self._begin_tuning()
            if settings.patience and values["stale"] >= settings.patience:
                reporter.line(f"stopped early: {values['stale']} validations without a better one")
                break
            self.state.model.train()
            features = self.pairs.features
            arrived, waited = time.perf_counter(), features.waited
            for batch in self.pairs.batches(settings, values["epoch"], values["batch"], self.ranks):
                rate = self._set_rates()
                terms = self._update(batch) if len(batch.names) > 1 else {}  # an image alone has no negatives
                sums = Counter(values["sums"])
                sums.update({**terms, "steps": 1} if terms else {})
                values["sums"] = dict(sums)
                values["batch"] += 1
                now = time.perf_counter()
                reporter.step(self.step, values["epoch"] + 1, terms, rate, now - arrived, features.waited - waited)
                arrived, waited = now, features.waited
                if any(self.ranks.gather(self.stopped())):
                    raise Interrupted("interrupted")
                if (steps and self.step % steps == 0) or (seconds and time.monotonic() - self.saved > seconds):
                    self._save()
            self._tell_failures(reporter)
            self._validate(reporter)

    def _begin_tuning(self) -> None:
        """From now on the last stages of the backbone learn: what they get is read, and validation runs all of it."""
        backbone, settings, data = self.state.model.backbone, self.settings, self.data
        before, self.stages = backbone.split()
        size = settings.image_size or self.in_use.image_size
        side = before(torch.zeros(1, 3, size, size, dtype=torch.uint8, device=before.mean.device))[0].shape[-1]
        how = Preparation(size, side)
        self.pairs.features = self._features(data.samples, before, how, "", mirrored=settings.tuning.mirror)
        if self.judge:
            self.judge = judge_by(data.validation, LiveFeatures(data.validation, backbone, self.in_use))
        if not self.state.tuning:
            self.state.begin(tuning=True)

    def _set_rates(self) -> float:
        """Sets the learning rates of the next step; returns that of the mappings. Tuning has a schedule of its own."""
        settings, groups = self.settings, self.state.optimizer.param_groups
        first, epochs = (settings.epochs, settings.tuning.epochs) if self.stages else (0, settings.epochs)
        step, steps = self.step - first * self.per_epoch, epochs * self.per_epoch
        for group in groups:
            group["lr"] = SCHEDULES[settings.schedule](step, steps, group["peak"], settings.warmup)
        return float(groups[0]["lr"])

    def _update(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer; returns the terms of the loss."""
        model, optimizer = self.state.model, self.state.optimizer
        optimizer.zero_grad()
        terms = add_gradient(model, batch, self.grid, self.ranks, self.options.precision, self.stages)
        _check_finite(terms, batch, self.state.values["epoch"], self.options.out)
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), self.settings.clip_norm)
        optimizer.step()
        self.state.take_in(self.step + 1)
        return terms

    def _tell_failures(self, reporter: Reporter) -> None:
        """Each image that can't be used is told of once. Raises GroundcliError where none can."""
        failures = self.pairs.features.failures
        for path, reason in sorted(set(failures) - self.told):
            reporter.line(f"skipped {path}: {reason}")
        self.told.update(failures)
        if not self.state.values["sums"]:
            raise GroundcliError(f"none of the {len(self.pairs.names)} images can be decoded: {failures[0][1]}")

    def _validate(self, reporter: Reporter) -> None:
        """Ends an epoch: measures the model where that is due, and saves it."""
        values, settings = self.state.values, self.settings
        sums, epoch, step = values["sums"], values["epoch"] + 1, self.step
        due = bool(self.judge) and (epoch % settings.validate_every == 0 or epoch == self.epochs)
        with self.state.averaged():
            accuracy = self.measure() if due else None
            best = -1 if values["best"] is None else values["best"]
            better = self.judge is None or (accuracy is not None and accuracy > best)
            values |= {"epoch": epoch, "batch": 0, "sums": {}, "accuracy": accuracy}
            values |= {"best": accuracy, "stale": 0} if better else {"stale": values["stale"] + due}
            if better:
                self.save_best()
            if due and self.ranks.first:
                reporter.overlays(self.state.model, self.data.validation, self.options.precision, step)
        # The line before the state: a process that is killed between them validates this epoch again, and the line is
        # dropped then; the other way round it would be lost.
        reporter.epoch(step, epoch, sums, self.judge, accuracy, better)
        self._save()

    def _save(self) -> None:
        if self.ranks.first:
            self.state.save(self.options.out)
        self.saved = time.monotonic()


def _with_fitting_batch(recipe: Recipe, pairs: Pairs, chosen: bool, console: Console) -> Recipe:
    """A recipe whose batches fit the images: no larger than there are, and no epoch of a step or two unless `chosen`.

    Raises:
        GroundcliError: there are under two images.
    """
    count, wanted = min(len(pairs.indices), pairs.drawn), recipe.training.batch_size
    if count < 2:
        raise GroundcliError(f"{count} usable images with captions: training tells pairs apart, and needs two at least")
    size = min(wanted, count, wanted if chosen else max(SMALL, count // STEPS))
    if size == wanted:
        return recipe
    console.print(f"batches of {size}, not {wanted}: there are {count} images", markup=False)
    return override(recipe, [f"{BATCH_SIZE}{size}"], "the recipe")


def _digest_of_stages(model: GroundingModel) -> str:
    """Hash of the backbone's tuned stages; empty where it has none."""
    tensors = [tensor for name, tensor in sorted(model.trained().items()) if name.startswith("backbone.")]
    content = b"".join(tensor.cpu().contiguous().numpy().tobytes() for tensor in tensors)
    return hashlib.sha256(content).hexdigest() if content else ""


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


# --- Learning rates as functions of the step


def warmup_cosine(step: int, steps: int, peak: float, warmup: int) -> float:
    """Rises linearly over `warmup` steps, but a quarter of all at most, then falls to zero along half a cosine."""
    warmup = min(warmup, steps // 4)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def paper_steps(step: int, steps: int, peak: float, warmup: int) -> float:
    """The paper's: halved after 9 of 20 epochs and quartered after 14."""
    return peak * (1.0 if step < steps * 9 / 20 else 0.5 if step < steps * 14 / 20 else 0.25)


SCHEDULES = {"cosine": warmup_cosine, "paper": paper_steps}
