"""Training on image-caption pairs: no box is ever read, but to choose the best epoch on validation data."""

import json
from collections.abc import Sequence
from dataclasses import replace
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
from groundcli.grounding.grounder import EncodedImage, Grounder
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.loss import grounding_loss
from groundcli.recipe import Recipe
from groundcli.training.features import Features, Preparation, features
from groundcli.training.progress import report
from groundcli.training.schedule import SCHEDULES
from groundcli.weights.load import frozen_parts, new_model

BEST, LAST = "best.safetensors", "last.safetensors"


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
) -> float:
    """Trains a recipe and writes `best.safetensors`, `last.safetensors` and `metrics.jsonl` into a folder.

    Args:
        recipe: the model and its training.
        samples: images with captions; marks and boxes, if any, are not looked at.
        validation: images with boxes, to choose the best epoch; without any, the last epoch counts as the best.
        out: the run's folder.
        cache: folder of cached features; default is one in the run's folder.
        device: where to train.
        resume: go on after the last whole epoch in `out`.
        console: where progress is shown.
        source: what the model learned from, for the checkpoint's metadata.

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
    model = new_model(config).to(device)
    frozen = frozen_parts(config)

    def cached(of: Sequence[Sample], how: Preparation) -> Features:
        folder = cache or out / "features"
        return features(of, model.backbone, frozen[config.visual.weights], how, folder, console)

    in_use = Preparation(config.visual.image_size, config.visual.grid)
    learning = Preparation(settings.image_size or in_use.image_size, settings.grid or in_use.grid)
    maps = cached(samples, learning)
    pairs = _Pairs(samples, maps)
    judge = _Judge(validation, cached(validation, in_use)) if validation else None
    for path, reason in maps.failures:
        console.print(f"skipped {path}: {reason}", markup=False)
    _check_enough(len(pairs.rows), settings.batch_size)
    model.visual_mapping.calibrate(maps.maps(pairs.rows[:256], device))
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
    if resume and last.exists():
        tensors, found = checkpoint.load(last)
        if found["recipe"] != metadata["recipe"] or found["frozen"] != frozen:
            raise UsageError(f"{last}: was trained by another recipe; name another folder")
        model.load_trained(checkpoint.part("model", tensors))
        checkpoint.restore_optimizer(optimizer, checkpoint.part("optimizer", tensors))
        metadata = found
    rate_at = SCHEDULES[settings.schedule]
    first = metadata["epoch"]
    with report(console, steps, first * per_epoch, settings.batch_size) as reporter:
        for epoch in range(first, settings.epochs):
            generator = torch.Generator().manual_seed(settings.seed * 1000 + epoch)
            torch.manual_seed(settings.seed * 1000 + epoch)
            model.train()
            total = 0.0
            for i, batch in enumerate(pairs.batches(settings.batch_size, generator)):
                rate = rate_at(epoch * per_epoch + i, steps, settings.learning_rate, settings.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                rows, captions = [row for row, _ in batch], [words for _, words in batch]
                v, s, z, text = model(maps.maps(rows, device), captions, learning.grid)
                present = pairs.present(rows, text.tokens).to(device)
                loss = grounding_loss(v, s, z, text.index, text.mask, config.loss, present)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                value = float(loss.detach())
                if value != value:
                    raise GroundcliError(f"the loss is not a number in epoch {epoch + 1}; the last good one is {last}")
                total += value
                reporter.step(value, rate)
            accuracy = judge.accuracy(model, device) if judge else None
            better = judge is None or metadata["best"] is None or accuracy > metadata["best"]
            metadata |= {"epoch": epoch + 1, "accuracy": accuracy, "best": accuracy if better else metadata["best"]}
            trained = checkpoint.prefixed("model", model.trained())
            if better:
                checkpoint.save(out / BEST, trained, metadata)
            state = checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer))
            checkpoint.save(last, trained | state, metadata)
            line = {"epoch": epoch + 1, "loss": total / per_epoch, "pointing_accuracy": accuracy}
            with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            pointing = "" if accuracy is None else f", validation pointing accuracy {100 * accuracy:.2f} %"
            reporter.line(f"epoch {epoch + 1}: loss {total / per_epoch:.4f}{pointing}{', the best' if better else ''}")
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


class _Pairs:
    """Usable images with their tokenised captions."""

    def __init__(self, samples: Sequence[Sample], maps: Features):
        self.captions: dict[int, list[list[str]]] = {}  # by row of the features
        for row, i in enumerate(maps.usable):
            tokenised = [[word.text for word in tokenize(caption.text)] for caption in samples[i].captions]
            if any(tokenised):
                self.captions[row] = [words for words in tokenised if words]
        self.rows = list(self.captions)
        self.content = {row: {content_key(w) for c in cs for w in c} - {""} for row, cs in self.captions.items()}

    def present(self, rows: Sequence[int], words: Sequence[str]) -> torch.Tensor:
        """(R, U) bool: whether any caption of the row's image has the word in some form; never for a stop word."""
        keys = [content_key(word) for word in words]
        return torch.tensor([[key in self.content[row] for key in keys] for row in rows])

    def batches(self, size: int, generator: torch.Generator) -> "list[list[tuple[int, list[str]]]]":
        """An epoch: every image once, in random order, with one of its captions; the incomplete last batch is left."""
        order = torch.randperm(len(self.rows), generator=generator).tolist()
        drawn = torch.rand(len(order), generator=generator).tolist()
        pairs = []
        for i, chance in zip(order, drawn, strict=True):
            captions = self.captions[self.rows[i]]
            pairs.append((self.rows[i], captions[int(chance * len(captions))]))
        return [pairs[i : i + size] for i in range(0, len(pairs) - size + 1, size)]


class _Judge:
    """Pointing accuracy on validation images, from cached features."""

    def __init__(self, samples: Sequence[Sample], maps: Features):
        self.maps = maps
        self.samples = []
        for i, size in zip(maps.usable, maps.sizes, strict=True):
            captions = [replace(c, phrases=scored_phrases(c, size, "default")) for c in samples[i].captions]
            self.samples.append(replace(samples[i], captions=captions))

    def accuracy(self, model: GroundingModel, device: torch.device) -> float:
        """Share of all phrases with a box whose point lies in one."""
        grounder = Grounder(model, device)
        hits = phrases = 0
        for row, (sample, size) in enumerate(zip(self.samples, self.maps.sizes, strict=True)):
            with torch.no_grad():
                cells = model.visual_mapping(self.maps.maps([row], device), model.config.visual.grid)[0]
            answers = grounder.ground_captions(EncodedImage(size, cells), sample.captions, boxes=False)
            for caption, answer in zip(sample.captions, answers, strict=True):
                for phrase, grounded in zip(caption.phrases, answer.phrases, strict=True):
                    hits += bool(pointing_hits([grounded.point], phrase.boxes)[0])
                    phrases += 1
        model.train()
        return hits / max(1, phrases)
