import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from groundcli import checkpoint
from groundcli.errors import GroundcliError
from groundcli.weights.files import find, shipped
from groundcli.weights.imports import import_backbone, import_word_pieces
from groundcli.weights.load import load_model, load_word_pieces

NAME = "tf_efficientnet_lite0"


def test_what_ships_is_there() -> None:
    assert {"lite", "efficientnet_lite2", "minilm_words"} <= set(shipped())


@pytest.mark.parametrize("renamed", [False, True])
def test_backbones_are_imported_by_name_or_in_order(tmp_path: Path, renamed: bool) -> None:
    state = timm.create_model(NAME).state_dict()
    given = {f"other.{i}" if renamed else k: t for i, (k, t) in enumerate(state.items())}
    given = {k: t for k, t in given.items() if t.ndim} if renamed else given  # without num_batches_tracked
    torch.save(given, tmp_path / "weights.pth")
    tensors = import_backbone(NAME, tmp_path / "weights.pth")
    assert tensors
    assert all(torch.equal(t, state[k]) for k, t in tensors.items())


def test_a_pickle_of_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": Path("x")}, tmp_path / "evil.pth")
    with pytest.raises(GroundcliError, match=r"evil.pth: not a PyTorch file of plain tensors"):
        import_backbone(NAME, tmp_path / "evil.pth")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(GroundcliError, match=rf"other.pth: has 1 tensors, {NAME} has"):
        import_backbone(NAME, tmp_path / "other.pth")


def test_word_pieces_are_centred(tmp_path: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    save_file({"embeddings.word_embeddings.weight": torch.rand(6, 4) + 5}, tmp_path / "model.safetensors")
    tensors, found = import_word_pieces(tmp_path)
    assert found == pieces
    assert tensors["table"].float().mean().abs() < 1e-2
    save_file(tensors, tmp_path / "words.safetensors", {"pieces": json.dumps(found)})
    words = load_word_pieces(tmp_path / "words.safetensors")
    torch.testing.assert_close(words(["Dog"])[0], tensors["table"][5].float())


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
