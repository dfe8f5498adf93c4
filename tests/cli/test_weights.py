from pathlib import Path

import pytest
import timm
import torch

from groundcli.weights.inventory import inventory
from groundcli.weights.load import load_backbone
from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own store, so that the tests change no other."""
    monkeypatch.setenv("GROUNDCLI_WEIGHTS", str(tmp_path / "store"))
    return tmp_path / "store"


def test_list_names_what_recipes_need_and_what_is_here(groundcli: Run, store: Path) -> None:
    listed = groundcli("weights", "list").stdout
    for weights in inventory():
        assert {weights.name, weights.here} <= set(listed.replace(",", " ").split())
        assert set(weights.used_by) <= set(listed.replace(",", " ").split())
    assert f"store: {store}" in listed


def test_an_imported_cnn_can_be_used(groundcli: Run, tmp_path: Path) -> None:
    from groundcli.recipe import load_recipe

    network = timm.create_model("tf_efficientnet_lite2", output_stride=16).eval()
    state = network.state_dict()
    torch.save({f"renamed.{k}": t for k, t in state.items()}, tmp_path / "lite2.pth")
    done = groundcli("weights", "import", tmp_path / "lite2.pth", "--name", "my_cnn")
    assert done.stdout.startswith("my_cnn: backbone tf_efficientnet_lite2, 322 tensors, 24.6 MB, SHA-256")
    backbone = load_backbone(load_recipe("lite", ["model.visual.weights=my_cnn"]).model)
    image = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    network.blocks[5].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        network((image / 255 - backbone.mean) / backbone.std)
    torch.testing.assert_close(backbone(image)[1], seen[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["import", "none.pth"], 3, "none.pth: no such file or folder"),
        (["import", "EMPTY"], 3, "empty.pth: the file is empty (0 bytes)"),
        (["fetch", "vgg19"], 2, "vgg19: nothing of this name was published; vgg16, pnasnet5large"),
        (["export", "vgg16", "--out", "x.safetensors"], 3, "vgg16: not here; run `groundcli weights fetch vgg16`"),
    ],
)
def test_bad_input_is_one_line(groundcli: Run, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "empty.pth").touch()
    done = groundcli("weights", *(tmp_path / "empty.pth" if a == "EMPTY" else a for a in arguments), code=code)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_model_goes_from_one_store_to_another(groundcli: Run, tmp_path: Path, store: Path) -> None:
    out = tmp_path / "shared.safetensors"
    done = groundcli("weights", "export", "lite", "--out", out)
    assert "groundcli weights import shared.safetensors" in done.stdout
    assert "it stands on efficientnet_lite2: ships" in done.stdout
    groundcli("weights", "import", out, "--name", "given")
    (store / "damaged.safetensors").write_bytes(out.read_bytes()[:1000])
    done = groundcli("weights", "verify", "damaged", "given", code=1)
    assert "not a whole safetensors file" in done.stdout
    assert done.stdout.count("forward pass") == 1


def test_without_names_all_that_is_here_is_verified(groundcli: Run) -> None:
    done = groundcli("weights", "verify")
    assert done.stdout.count("forward pass") >= 3
