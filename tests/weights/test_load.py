from pathlib import Path

import pytest

from groundcli import checkpoint
from groundcli.errors import GroundcliError
from groundcli.weights.load import load_model
from groundcli.weights.store import find


def test_a_cut_off_checkpoint_is_refused(tmp_path: Path) -> None:
    whole = find("lite").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GroundcliError, match=r"cut.safetensors: not a whole safetensors file"):
        load_model(str(tmp_path / "cut.safetensors"))


def test_a_checkpoint_on_other_frozen_weights_is_refused(tmp_path: Path) -> None:
    tensors, metadata = checkpoint.load(find("lite"))
    metadata["frozen"]["efficientnet_lite2"] = "0" * 64
    checkpoint.save(tmp_path / "other.safetensors", tensors, metadata)
    with pytest.raises(GroundcliError, match="was trained on other weights efficientnet_lite2"):
        load_model(str(tmp_path / "other.safetensors"))


def test_a_checkpoint_whose_tensors_do_not_fit_is_refused(tmp_path: Path) -> None:
    tensors, metadata = checkpoint.load(find("lite"))
    del tensors["model/visual_mapping.scale"]
    checkpoint.save(tmp_path / "less.safetensors", tensors, metadata)
    with pytest.raises(GroundcliError, match=r"its tensors don't fit its recipe.*visual_mapping.scale"):
        load_model(str(tmp_path / "less.safetensors"))
