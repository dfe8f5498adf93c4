"""A trained model whose score is a probability."""

from collections.abc import Sequence
from pathlib import Path

from groundcli import checkpoint
from groundcli.errors import GroundcliError
from groundcli.weights.load import Loaded


def write_calibrated(loaded: Loaded, calibration: Sequence[float], out: Path) -> None:
    """Writes a checkpoint anew with a calibration in its recipe; its tensors stay as they are.

    Args:
        loaded: the model, and where its checkpoint is.
        calibration: see `ModelConfig`.
        out: a .safetensors file.

    Raises:
        GroundcliError: it can't be written.
    """
    tensors, metadata = checkpoint.load(loaded.path)
    metadata["recipe"]["model"]["calibration"] = list(calibration)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(out, tensors, metadata)
    except OSError as error:
        raise GroundcliError(f"--calibrate {out}: can't be written ({error.strerror})") from None
