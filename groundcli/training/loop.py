"""Training on image-caption pairs: no box is ever read, but to choose the best epoch on validation data."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import groundcli
from groundcli import checkpoint
from groundcli.data.sample import Sample
from groundcli.data.words import content_key, tokenize
from groundcli.errors import GroundcliError, UsageError
from groundcli.evaluation.metrics import pointing_hits
from groundcli.evaluation.protocol import scored_phrases
from groundcli.grounding.grounder import Grounder
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.loss import grounding_loss
from groundcli.model.precision import Precision, autocast
from groundcli.recipe import Recipe
from groundcli.training.features import FeatureSource, LiveFeatures, Preparation, cached_features
from groundcli.training.progress import report
from groundcli.training.schedule import SCHEDULES
from groundcli.weights.files import BEST
from groundcli.weights.load import UNTRAINED, ElmoBackend, new_model

LAST = "last.safetensors"


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
) -> float:
    """Trains a recipe and writes `best.safetensors`, `last.safetensors` and `metrics.jsonl` into a folder.

    Args:
        recipe: the model and its training.
        samples: images with captions; marks and boxes, if any, are not looked at.
        validation: images with boxes, to choose the best epoch; without any, the last epoch counts as the best.
        out: the run's folder.
        cache: folder of cached features, where the recipe caches them; default is one in the run's folder.
        device: where to train.
        resume: go on after the last whole epoch in `out`.
        console: where progress is shown.
        source: what the model learned from, for the checkpoint's metadata.
        precision: of convolutions and matrix products.
        untrained: draw the frozen CNN and ELMo at random instead of loading their weights, and mark the checkpoint so.
        elmo_backend: whose code runs an ELMo.

    Returns:
        The best pointing accuracy on the validation data, a fraction; nan without validation data.

    Raises:
        UsageError: the run exists and `resume` isn't given, or was made by another recipe.
        GroundcliError: fewer usable pairs than a batch.
    """
    last = out / LAST
    if last.exists() and not resume:
        raise UsageError(f"{out} holds a run already: add --resume to go on with it, or name another folder")
    config, settings = recipe.model, recipe.training
    _check_enough(len(samples), settings.batch_size)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    model, frozen = new_model(config, settings.seed if untrained else None, elmo_backend)
    model.to(device)

    def features(of: Sequence[Sample], how: Preparation) -> FeatureSource:
        if not settings.cache_features:
            return LiveFeatures(of, model.backbone, how.image_size)
        return cached_features(
            of, model.backbone, frozen[config.visual.weights], how, cache or out / "features", console
        )

    in_use = Preparation(config.visual.image_size, config.visual.grid)
    learning = Preparation(settings.image_size or in_use.image_size, settings.grid or in_use.grid)
    pairs = _Pairs(samples, features(samples, learning))
    judge = _Judge(validation, features(validation, in_use)) if validation and settings.validate_every else None
    _check_enough(len(pairs.rows), settings.batch_size)
    _calibrate(model, pairs, settings.batch_size)
    optimizer = _optimizer(model, settings.weight_decay)
    per_epoch = len(pairs.rows) // settings.batch_size
    steps = per_epoch * settings.epochs
    metadata: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "frozen": frozen,
        "source": source,
        "version": groundcli.__version__,
        "epoch": 0,
        "accuracy": None,
        "best": None,
    }
    if untrained:
        metadata[UNTRAINED] = settings.seed
    if resume and last.exists():
        tensors, found = checkpoint.load(last)
        if found["recipe"] != metadata["recipe"] or found["frozen"] != frozen:
            raise UsageError(f"{last}: was trained by another recipe; name another folder")
        model.load_trained(checkpoint.part("model", tensors))
        checkpoint.restore_optimizer(optimizer, checkpoint.part("optimizer", tensors))
        metadata = found
    rate_at = SCHEDULES[settings.schedule]
    first = metadata["epoch"]
    told: set[tuple[str, str]] = set()
    with report(console, steps, first * per_epoch, settings.batch_size) as reporter:
        for epoch in range(first, settings.epochs):
            generator = torch.Generator().manual_seed(settings.seed * 1000 + epoch)
            torch.manual_seed(settings.seed * 1000 + epoch)
            model.train()
            losses: list[float] = []
            for batch in pairs.batches(settings.batch_size, generator):
                step = epoch * per_epoch + len(losses)
                rate = rate_at(step, steps, settings.learning_rate, settings.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                with autocast(device, precision):
                    v, s, z, text = model(batch.maps, batch.captions, learning.grid)
                    present = pairs.present(batch.rows, text.tokens).to(device) if config.loss.word_weight else None
                    loss = grounding_loss(v, s, z, text.index, text.mask, config.loss, present)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
                if math.isnan(losses[-1]):
                    raise GroundcliError(f"the loss is not a number in epoch {epoch + 1}; the last good one is {last}")
                reporter.step(losses[-1], rate)
            for path, reason in set(pairs.features.failures) - told:
                reporter.line(f"skipped {path}: {reason}")
                told.add((path, reason))
            if not losses:
                raise GroundcliError(f"none of the {len(samples)} images can be decoded: {reason}")
            mean = sum(losses) / len(losses)
            due = judge and ((epoch + 1) % settings.validate_every == 0 or epoch + 1 == settings.epochs)
            accuracy = judge.accuracy(model, device, precision) if judge and due else None
            better = judge is None or (accuracy is not None and accuracy > (metadata["best"] or -1))
            metadata |= {"epoch": epoch + 1, "accuracy": accuracy, "best": accuracy if better else metadata["best"]}
            trained = checkpoint.prefixed("model", model.trained())
            if better:
                checkpoint.save(out / BEST, trained, metadata)
            state = checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer))
            checkpoint.save(last, trained | state, metadata)
            line = {"epoch": epoch + 1, "loss": mean, "pointing_accuracy": accuracy}
            with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            pointing = "" if accuracy is None else f", validation pointing accuracy {100 * accuracy:.2f} %"
            reporter.line(f"epoch {epoch + 1}: loss {mean:.4f}{pointing}{', the best' if better else ''}")
    best = metadata["best"]
    return float("nan") if best is None else float(best)


def _check_enough(images: int, batch_size: int) -> None:
    if images < batch_size:
        raise GroundcliError(
            f"{images} images with captions are fewer than a batch of {batch_size}; give more, or add "
            "--set training.batch_size=NUMBER"
        )


def _optimizer(model: GroundingModel, weight_decay: float) -> torch.optim.Optimizer:
    """Adam; L2 on the mapping's convolutions alone, as in the paper."""
    convolutions = [p for n, p in model.visual_mapping.named_parameters() if n.endswith("weight")]
    decayed = {id(p) for p in convolutions}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in decayed]
    groups: list[dict[str, Any]] = [{"params": convolutions, "weight_decay": weight_decay}, {"params": others}]
    return torch.optim.Adam(groups)


def _calibrate(model: GroundingModel, pairs: "_Pairs", batch_size: int) -> None:
    """Brings the levels to one size, as the first batch that can be decoded shows them."""
    rows = pairs.rows
    for batch in pairs.features.read(rows[i : i + batch_size] for i in range(0, len(rows), batch_size)):
        model.visual_mapping.calibrate(batch.maps)
        return


@dataclass(frozen=True)
class _Batch:
    """Pairs of a step: rows of the list, the images' feature maps, a caption each."""

    rows: list[int]
    maps: list[torch.Tensor]
    captions: list[list[str]]


class _Pairs:
    """Images with their tokenised captions."""

    def __init__(self, samples: Sequence[Sample], features: FeatureSource):
        self.features = features
        self.captions: dict[int, list[list[str]]] = {}  # by row
        for row in features.rows:
            tokenised = [[word.text for word in tokenize(caption.text)] for caption in samples[row].captions]
            if any(tokenised):
                self.captions[row] = [words for words in tokenised if words]
        self.rows = list(self.captions)
        self.content = {row: {content_key(w) for c in cs for w in c} - {""} for row, cs in self.captions.items()}

    def present(self, rows: Sequence[int], words: Sequence[str]) -> torch.Tensor:
        """(R, U) bool: whether any caption of the row's image has the word in some form; never for a stop word."""
        keys = [content_key(word) for word in words]
        return torch.tensor([[key in self.content[row] for key in keys] for row in rows])

    def batches(self, size: int, generator: torch.Generator) -> Iterator[_Batch]:
        """An epoch: every image once, in random order, with one of its captions; the incomplete last batch is left.

        Images that can't be decoded leave their batch smaller; a batch of one has no negatives and is passed over.
        """
        order = [self.rows[i] for i in torch.randperm(len(self.rows), generator=generator).tolist()]
        drawn = torch.rand(len(order), generator=generator).tolist()
        caption = {
            row: self.captions[row][int(x * len(self.captions[row]))] for row, x in zip(order, drawn, strict=True)
        }
        for batch in self.features.read(order[i : i + size] for i in range(0, len(order) - size + 1, size)):
            if len(batch.rows) > 1:
                yield _Batch(batch.rows, batch.maps, [caption[row] for row in batch.rows])


class _Judge:
    """Pointing accuracy on validation images."""

    def __init__(self, samples: Sequence[Sample], features: FeatureSource):
        self.samples = samples
        self.features = features

    @torch.no_grad()
    def accuracy(self, model: GroundingModel, device: torch.device, precision: Precision) -> float:
        """Share of all phrases with a box whose point lies in one."""
        grounder = Grounder(model, device, precision)
        hits = phrases = 0
        rows = self.features.rows
        for batch in self.features.read(rows[i : i + 8] for i in range(0, len(rows), 8)):
            for row, size, image in zip(
                batch.rows, batch.sizes, grounder.encode_maps(batch.maps, batch.sizes), strict=True
            ):
                captions = [replace(c, phrases=scored_phrases(c, size, "default")) for c in self.samples[row].captions]
                for caption, answer in zip(
                    captions, grounder.ground_captions(image, captions, boxes=False), strict=True
                ):
                    for phrase, grounded in zip(caption.phrases, answer.phrases, strict=True):
                        hits += bool(pointing_hits([grounded.point], phrase.boxes)[0])
                        phrases += 1
        model.train()
        return hits / max(1, phrases)
