"""What a training run keeps in its folder, of which nothing is ever lost: it goes on exactly where it was."""

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError
from groundcli.files import LOCK, is_partial, replacing, write_json
from groundcli.model.grounding_model import GroundingModel
from groundcli.recipe import TrainingConfig, recipe_from
from groundcli.training import LearningOptions
from groundcli.training.gradient import Ranks
from groundcli.weights.load import check_finite
from groundcli.weights.store import BEST

LAST, PREVIOUS = "last.safetensors", "previous.safetensors"
METRICS = "metrics.jsonl"
FILES = frozenset({LAST, PREVIOUS, BEST, METRICS, LOCK, "run.json", "features", "tensorboard", "curves.png"})
SAME = {"recipe": "by another recipe", "frozen": "on other frozen weights", "data": "on other data"}
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


class Average:
    """Exponential moving average of the trained weights: `decay` of the old and the rest of the new, at every step."""

    def __init__(self, model: GroundingModel, decay: float):
        self.decay = decay
        self.tensors = {name: tensor.clone() for name, tensor in model.trained().items()} if decay else {}

    @torch.no_grad()
    def update(self, model: GroundingModel, step: int) -> None:
        """Takes in a step, counted from 1; the first ones weigh more, so that the beginning is soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now = model.trained() if self.decay else {}
        for name, tensor in self.tensors.items():
            tensor.lerp_(now[name], 1 - decay)

    @contextmanager
    def in_place(self, model: GroundingModel) -> Iterator[None]:
        """The model has the average's weights, where there is one, until the block ends."""
        if not self.decay:
            yield
            return
        before = {name: tensor.clone() for name, tensor in model.trained().items()}
        model.load_trained(self.tensors)
        try:
            yield
        finally:
            model.load_trained(before)


class RunState:
    """Weights, optimizer, average and, in a dictionary of plain values, all else.

    Attributes:
        model: whose trained parts are kept.
        optimizer: Adam.
        average: of the weights.
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
        """Begins one of the two parts of training, with a new optimizer and average."""
        settings, stages = self.settings, self.model.backbone.tuned_parameters()
        for parameter in stages:
            parameter.requires_grad_(tuning)
        self.tuning = tuning
        rates = (settings.tuning.learning_rate, settings.tuning.stage_rate) if tuning else (settings.learning_rate, 0)
        self.optimizer = _optimizer(self.model, settings.weight_decay, stages if tuning else [], *rates)
        self.average = Average(self.model, settings.ema)

    def save(self, out: Path) -> None:
        """Writes all that going on takes; the state before stays as `previous.safetensors`. Raises GroundcliError."""
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        everything = {
            **checkpoint.prefixed("model", self.model.trained()),
            **checkpoint.prefixed("average", self.average.tensors),
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
            self.average.tensors[name].copy_(tensor)
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
    for path in (out / LAST, out / PREVIOUS):
        if path.exists():
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


def _optimizer(
    model: GroundingModel, weight_decay: float, stages: Sequence[nn.Parameter], rate: float, stage_rate: float
) -> torch.optim.Optimizer:
    """Adam; L2 on the mapping's convolutions alone, as in the paper. Each group's "peak" is its highest rate."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad and not name.startswith("backbone.")}
    decayed = [p for n, p in named.items() if n.startswith("visual_mapping.") and n.endswith("weight")]
    others = [p for n, p in named.items() if not (n.startswith("visual_mapping.") and n.endswith("weight"))]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": weight_decay, "peak": rate}]
    groups += [{"params": others, "peak": rate}]
    groups += [{"params": stages, "peak": stage_rate}] if stages else []
    return torch.optim.Adam(groups)


def choose_trained(model: GroundingModel, part: str) -> None:
    """Freezes all but a part of what training learned.

    `heads` are all mappings, `text` those of words and sentences, `top-levels` the mappings of the later half of the
    backbone's levels, with those of the text where every level has a space of its own.
    """
    if part == "heads":
        return
    words, sentences, stacks = model.word_mapping.copies, model.sentence_mapping.copies, model.visual_mapping.stacks
    trained: list[torch.nn.Module] = [words, sentences, *([model.context] if model.context else [])]
    if part == "top-levels":
        first = len(stacks) // 2
        per_level = [words[first:], sentences[first:]] if len(words) > 1 else []
        trained = [stacks[first:], *per_level]
    model.requires_grad_(False)
    for module in trained:
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
