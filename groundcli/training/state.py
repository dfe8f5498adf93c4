"""What a training run keeps in its folder, of which nothing is ever lost: it goes on exactly where it was."""

import json
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError
from groundcli.files import LOCK, is_partial, now, replacing, write_json
from groundcli.model.grounding_model import GroundingModel
from groundcli.recipe import TrainingConfig, recipe_from
from groundcli.training import LearningOptions
from groundcli.training.gradient import Ranks
from groundcli.weights.load import check_finite
from groundcli.weights.store import BEST

LAST, PREVIOUS = "last.safetensors", "previous.safetensors"
METRICS = "metrics.jsonl"
FILES = frozenset({LAST, PREVIOUS, BEST, METRICS, LOCK, "run.json", "features", "tensorboard", "curves.png"})
# What has to be the same, the data first: some of a recipe follows from how many they are.
SAME = {"data": "on other data", "recipe": "by another recipe", "frozen": "on other frozen weights"}
BEGINNING = {"epoch": 0, "batch": 0, "sums": {}, "accuracy": None, "best": None, "before": None, "stale": 0}
PACKAGES = ("torch", "torchvision", "timm", "numpy", "tokenizers", "pillow")
Tell = Callable[[str], None]


def has_state(out: Path) -> bool:
    """Whether a folder holds a state to go on from."""
    return any((out / name).exists() for name in (LAST, PREVIOUS))


def check_folder(out: Path, resume: bool) -> None:
    """Raises UsageError where a folder holds a run that isn't resumed, or files that no run of training wrote."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: a file; name a folder")
    if resume or not out.exists():
        return
    if has_state(out) or (out / BEST).exists():
        raise UsageError(f"{out} holds a run already: add --resume to go on with it, or name another folder")
    foreign = sorted(path.name for path in out.iterdir() if path.name not in FILES and not is_partial(path.name))
    if foreign:
        some = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UsageError(f"--out {out}: holds files that no training wrote ({some}); name a new folder")
    run = out / "run.json"
    if run.exists() and '"recipe"' not in run.read_text("utf-8", errors="replace"):
        raise UsageError(f"--out {out}: holds a run.json that no training wrote; name a new folder")


class RunState:
    """Weights, optimizer, average and, in a dictionary of plain values, all else.

    Attributes:
        model: whose trained parts are kept.
        optimizer: Adam.
        average: exponential moving average of the trained weights, by their names; empty where the recipe has none.
        tuning: whether the tuned stages of the backbone learn by now.
        values: what the run was made of ("recipe", "frozen", "data", ...), and how far it is: "epoch", the whole ones,
            validation included; "batch", those of the next epoch that are done, with the "sums" of the loss's terms
            over them; "accuracy", what the last validation gave, "best", the best one, "before", the one before
            finetuning; "stale", validations since the best one.
    """

    def __init__(self, model: GroundingModel, settings: TrainingConfig, made_of: Mapping[str, Any]):
        self.model, self.settings = model, settings
        self.values: dict[str, Any] = {**made_of, **BEGINNING}
        self.begin(tuning=False)

    def begin(self, tuning: bool) -> None:
        """Begins one of the two parts of training, with a new optimizer and average.

        L2 is on the mapping's convolutions alone, as in the paper. Each group's "peak" is its highest rate.
        """
        settings, stages = self.settings, self.model.backbone.tuned_parameters()
        for parameter in stages:
            parameter.requires_grad_(tuning)
        self.tuning = tuning
        rate = settings.tuning.learning_rate if tuning else settings.learning_rate
        decayed: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not name.startswith("backbone."):
                is_decayed = name.startswith("visual_mapping.") and name.endswith("weight")
                (decayed if is_decayed else others).append(parameter)
        groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": settings.weight_decay, "peak": rate}]
        groups += [{"params": others, "peak": rate}]
        groups += [{"params": stages, "peak": settings.tuning.stage_rate}] if tuning else []
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(groups)
        self.average = _copies(self.model) if settings.ema else {}

    @torch.no_grad()
    def take_in(self, step: int) -> None:
        """Takes a step, from 1 on, into the average; the first ones weigh more, as the beginning is soon forgotten."""
        decay = min(self.settings.ema, (1 + step) / (10 + step))
        now = self.model.trained() if self.average else {}
        for name, tensor in self.average.items():
            tensor.lerp_(now[name], 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model has the average's weights, where there is one, until the block ends."""
        if not self.average:
            yield
            return
        before = _copies(self.model)
        self.model.load_trained(self.average)
        try:
            yield
        finally:
            self.model.load_trained(before)

    def save(self, out: Path) -> None:
        """Writes all that going on takes; the state before stays as `previous.safetensors`. Raises GroundcliError."""
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        everything = {
            **checkpoint.prefixed("model", self.model.trained()),
            **checkpoint.prefixed("average", self.average),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self.optimizer)),
            **checkpoint.prefixed("random", random),
        }
        checkpoint.save(out / LAST, everything, self.values, out / PREVIOUS)

    def save_best(self, out: Path) -> None:
        """Writes the model alone. Raises GroundcliError."""
        checkpoint.save(out / BEST, checkpoint.prefixed("model", self.model.trained()), self.values)

    def restore(self, out: Path, tell: Tell) -> bool:
        """Goes back to the last state in a folder; False where there is none.

        Raises:
            UsageError: it was made by another recipe or on other data.
            GroundcliError: it is damaged, and so is the one before.
        """
        loaded = _load(out, tell)
        if not loaded:
            return False
        tensors, values = loaded
        values["recipe"] = recipe_from(values["recipe"], str(out)).to_dict()  # an older one lacks newer settings
        for key, what in SAME.items():
            if values[key] != self.values[key]:
                raise UsageError(f"{out}: was trained {what}; name another folder")
        self.begin(tuning=values["epoch"] + bool(values["batch"]) > self.settings.epochs)
        self.model.load_trained(checkpoint.part("model", tensors))
        for name, tensor in checkpoint.part("average", tensors).items():
            self.average[name].copy_(tensor)
        checkpoint.restore_optimizer(self.optimizer, checkpoint.part("optimizer", tensors))
        random = checkpoint.part("random", tensors)
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])
        self.values = values
        return True


def _load(out: Path, tell: Tell) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last state that is whole; None where the folder has none. Raises GroundcliError where all are damaged."""
    errors = []
    for path in filter(Path.exists, (out / LAST, out / PREVIOUS)):
        try:
            loaded = checkpoint.load(path, (*SAME, *BEGINNING))
            check_finite(path, loaded[0])
        except GroundcliError as error:
            errors.append(str(error))
            continue
        if errors:
            tell(f"{errors[0]}; going on from {path.name}, the one before")
        return loaded
    if errors:
        raise GroundcliError("; ".join(errors) + "; start anew in another folder")
    return None


def _copies(model: GroundingModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.trained().items()}


def choose_trained(model: GroundingModel, part: str) -> None:
    """Freezes all but a part of what training learned.

    `heads` are all mappings, `text` those of words and sentences, `top-levels` the mappings of the later half of the
    backbone's levels, with those of the text where every level has a space of its own.
    """
    if part == "heads":
        return
    words, sentences, stacks = model.word_mapping.copies, model.sentence_mapping.copies, model.visual_mapping.stacks
    first = len(stacks) // 2
    trained: dict[str, list[nn.Module | None]] = {
        "text": [words, sentences, model.context],
        "top-levels": [stacks[first:], *([words[first:], sentences[first:]] if len(words) > 1 else [])],
    }
    model.requires_grad_(False)
    for module in filter(None, trained[part]):
        module.requires_grad_(True)


def keep_metrics(out: Path, step: int, epochs: int) -> None:
    """Drops what `metrics.jsonl` says of later steps and epochs: they are done again. A torn line is dropped, too."""
    path, kept = out / METRICS, []
    for text in path.read_text("utf-8", errors="replace").splitlines(keepends=True) if path.exists() else ():
        with suppress(ValueError):
            line = json.loads(text)
            done = line["step"] <= step if "lr" in line else line["epoch"] <= epochs  # of a step, of an epoch
            kept += [text] if done and text.endswith("\n") else []
    with replacing(path) as file:
        file.writelines(kept)


def describe(
    options: LearningOptions, state: RunState, counts: Mapping[str, int], device: torch.device, ranks: Ranks
) -> None:
    """Writes `run.json`: everything needed to repeat the run."""
    values = state.values
    run = {
        "date": now(),
        "command": options.command,
        "arguments": options.arguments(),
        "recipe": values["recipe"],
        "seed": values["recipe"]["training"]["seed"],
        "frozen": values["frozen"],
        "source": values["source"],
        "data": values["data"],
        "counts": counts,
        "versions": {
            "groundcli": values["version"],
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "host": {
            "name": platform.node(),
            "system": platform.platform(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": torch.get_num_threads(),
            "ranks": ranks.count,
        },
    }
    write_json(options.out / "run.json", run)
