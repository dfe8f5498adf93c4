import json
from dataclasses import asdict
from pathlib import Path

import pytest
import timm
import torch

from groundcli.weights.inventory import inventory
from groundcli.weights.load import load_backbone
from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("store")


def test_list_names_what_recipes_need_and_what_is_here(groundcli: Run, store: Path) -> None:
    listed = groundcli("weights", "list").stdout
    words = set(listed.replace(",", " ").split())
    for weights in inventory():
        assert {weights.name, weights.here, *weights.used_by} <= words
        assert f"from {weights.source}" in listed
    assert f"store: {store}" in listed


def test_list_as_json_has_the_same(groundcli: Run) -> None:
    listed = json.loads(groundcli("weights", "list", "--json").stdout)
    assert listed == [{**asdict(weights), "used_by": list(weights.used_by)} for weights in inventory()]


@pytest.mark.slow
def test_list_fits_a_terminal_of_80_columns(process: Run) -> None:
    lines = process("weights", "list", COLUMNS="80").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("store: "))
    (model,) = (number for number, line in enumerate(lines) if line.startswith("elmo_original "))
    assert lines[model].split() == ["elmo_original", "ELMo", "missing", "374", "MB", "Apache-2.0"]
    assert lines[model + 1] == "  from AllenNLP, allennlp.org/elmo; s3-us-west-2.amazonaws.com"
    assert lines[model + 2].startswith("  for pnasnet_bilstm, ")
    assert lines[model + 3].startswith("    vgg16_bilstm")


@pytest.mark.slow
def test_an_imported_backbone_can_be_used(groundcli: Run, tmp_path: Path) -> None:
    from groundcli.recipe import load_recipe

    network = timm.create_model("tf_efficientnet_lite2", output_stride=16).eval()
    state = network.state_dict()
    torch.save({f"renamed.{k}": t for k, t in state.items()}, tmp_path / "lite2.pth")
    done = groundcli("weights", "import", tmp_path / "lite2.pth", "--name", "mine")
    assert done.stdout.startswith("mine: backbone tf_efficientnet_lite2, 322 tensors, 24.6 MB, SHA-256")
    backbone = load_backbone(load_recipe("lite", ["model.visual.weights=mine"]).model.visual)
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
        (["export", "nope", "--out", "x.safetensors"], 3, "nope: no model of this name, and no such file or folder of"),
    ],
)
def test_bad_input_is_one_line(groundcli: Run, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "empty.pth").touch()
    done = groundcli("weights", *(tmp_path / "empty.pth" if a == "EMPTY" else a for a in arguments), code=code)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
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


@pytest.mark.slow
def test_without_names_all_that_is_here_is_verified(groundcli: Run) -> None:
    done = groundcli("weights", "verify")
    assert done.stdout.count("forward pass") >= 3
