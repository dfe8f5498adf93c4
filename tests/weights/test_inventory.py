from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from groundcli import checkpoint
from groundcli.model.elmo import Elmo
from groundcli.weights.elmo import save_elmo
from groundcli.weights.inventory import Check, inventory, verify
from groundcli.weights.store import PUBLISHED, find
from tests.weights.test_store import TINY


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own store, so that the tests see no other."""
    monkeypatch.setenv("GROUNDCLI_WEIGHTS", str(tmp_path))
    return tmp_path


def failure(name: str) -> str:
    """Why weights fail; the failure is the last check and the only one."""
    *passed, last = verify(name)
    assert all(check.ok for check in passed)
    assert not last.ok
    return last.result


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lite", "efficientnet_lite2", "minilm_words"])
def test_what_ships_is_in_order(name: str) -> None:
    checks = list(verify(name))
    assert all(check.ok for check in checks)
    assert checks[-1].what == "forward pass"


def test_an_elmo_is_run(store: Path) -> None:
    save_elmo(Elmo(TINY), store / "elmo_mine")
    assert list(verify("elmo_mine"))[-1] == Check("forward pass", "finite 4 x 16, 4 x 16, 4 x 16, 1 x 16, 1 x 16")


@pytest.mark.slow
@torch.no_grad()
def test_values_that_are_not_finite_are_named(store: Path) -> None:
    tensors = load_file(find("efficientnet_lite2"))
    tensors["conv_stem.weight"][0] = torch.nan
    save_file(tensors, store / "lite2.safetensors")
    assert failure("lite2") == f"{store}/lite2.safetensors: conv_stem.weight has values that are not finite"
    elmo = Elmo(TINY)
    elmo.lstm[0].kernel[0, 0, 0] = torch.inf
    save_elmo(elmo, store / "elmo")
    kernel = "RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell/W_0"
    assert failure("elmo") == f"{store}/elmo/lm_weights.hdf5: {kernel} has values that are no finite numbers"
    tensors, metadata = checkpoint.load(find("lite"))
    tensors["model/visual_mapping.scale"][0] = torch.nan
    checkpoint.save(store / "model.safetensors", tensors, metadata)
    assert failure("model") == f"{store}/model.safetensors: visual_mapping.scale has values that are not finite"


@pytest.mark.slow
def test_a_model_on_other_frozen_weights_fails(store: Path) -> None:
    tensors, metadata = checkpoint.load(find("lite"))
    metadata["frozen"]["minilm_words"] = "0" * 64
    checkpoint.save(store / "model.safetensors", tensors, metadata)
    assert "was trained on other weights minilm_words" in failure("model")


def test_a_cut_off_file_fails(store: Path) -> None:
    whole = find("minilm_words").read_bytes()
    (store / "words.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "words.safetensors: not a whole safetensors file" in failure("words")


def test_missing_weights_fail_with_the_way_to_get_them() -> None:
    assert failure("vgg16").startswith("vgg16: not here; run `groundcli weights fetch vgg16`")


@pytest.mark.slow
def test_paths_and_run_folders_are_verified_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(find("lite").read_bytes())
    assert all(check.ok for check in verify(str(run)))


def test_published_weights_are_listed_and_then_the_users_own(store: Path) -> None:
    save_elmo(Elmo(TINY), store / "elmo_mine")
    (store / "broken.safetensors").write_bytes(b"no safetensors")
    listed = {weights.name: weights for weights in inventory()}
    assert list(listed)[: len(PUBLISHED)] == list(PUBLISHED)
    assert (listed["elmo_mine"].what, listed["elmo_mine"].here, listed["elmo_mine"].used_by) == ("ELMo", "store", ())
    assert (listed["broken"].what, listed["lite"].what, listed["lite"].here) == ("damaged", "model", "ships")
    assert (listed["vgg16"].here, listed["vgg16"].megabytes) == ("missing", 553)
    assert listed["vgg16"].used_by == ("vgg16_bilstm", "vgg16_bilstm_3x3", "vgg16_elmo", "vgg16_elmo_3x3")
    assert listed["minilm_words"].megabytes == pytest.approx(23.8, abs=0.1)
