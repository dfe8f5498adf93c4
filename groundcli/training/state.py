"""What a training run keeps, and goes on from exactly where it was."""

from pathlib import Path
from typing import Any

import torch

from groundcli import checkpoint
from groundcli.errors import UsageError
from groundcli.model.grounding_model import GroundingModel
from groundcli.recipe import TrainingConfig, recipe_from
from groundcli.training.average import Average
from groundcli.training.run_folder import LAST, PREVIOUS, Warn, load_state
from groundcli.weights.files import BEST

SAME = {"recipe": "by another recipe", "frozen": "on other frozen weights", "data": "on other data"}


class RunState:
    """Weights, optimizer, average and, in a dictionary of plain values, all else.

    Attributes:
        model: whose trained parts are kept.
        optimizer: Adam.
        average: of the weights.
        values: what the run was made of ("recipe", "frozen", "data", ...), and how far it is: "epoch", the whole ones,
            validation included; "batch", those of the next epoch that are done, with the "sums" of the loss's terms
            over them; "accuracy", what the last validation found, "best", the best one, "before", the one before
            finetuning; "stale", validations since the best one.
    """

    def __init__(self, model: GroundingModel, settings: TrainingConfig, made_of: dict[str, Any]):
        self.model = model
        self.optimizer = _optimizer(model, settings.weight_decay)
        self.average = Average(model, settings.ema)
        self.values: dict[str, Any] = {
            **made_of,
            "epoch": 0,
            "batch": 0,
            "sums": {},
            "accuracy": None,
            "best": None,
            "before": None,
            "stale": 0,
        }

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

    def restore(self, out: Path, warn: Warn) -> bool:
        """Goes back to the last state in a folder; False where there is none.

        Raises:
            UsageError: it was made by another recipe or on other data.
            GroundcliError: it is damaged, and so is the one before.
        """
        found = load_state(out, warn)
        if not found:
            return False
        tensors, values = found
        values["recipe"] = recipe_from(values["recipe"], str(out)).to_dict()  # an older one lacks newer settings
        for key, what in SAME.items():
            if values.get(key) != self.values[key]:
                raise UsageError(f"{out}: was trained {what}; name another folder")
        self.model.load_trained(checkpoint.part("model", tensors))
        self.average.load(checkpoint.part("average", tensors))
        checkpoint.restore_optimizer(self.optimizer, checkpoint.part("optimizer", tensors))
        random = checkpoint.part("random", tensors)
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])
        self.values = values
        return True


def _optimizer(model: GroundingModel, weight_decay: float) -> torch.optim.Optimizer:
    """Adam; L2 on the mapping's convolutions alone, as in the paper."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    decayed = [p for n, p in named.items() if n.startswith("visual_mapping.") and n.endswith("weight")]
    others = [p for n, p in named.items() if not (n.startswith("visual_mapping.") and n.endswith("weight"))]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": weight_decay}, {"params": others}]
    return torch.optim.Adam(groups)
