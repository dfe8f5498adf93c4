from pathlib import Path

import timm
import torch

from groundcli.weights.files import shipped
from groundcli.weights.load import load_backbone
from tests.cli.conftest import Run


def test_list_names_all_that_ships(groundcli: Run) -> None:
    listed = groundcli("weights", "list").stdout
    assert all(name in listed for name in shipped())


def test_an_imported_backbone_can_be_used(groundcli: Run, tmp_path: Path) -> None:
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save({f"renamed.{k}": t for k, t in state.items()}, tmp_path / "lite0.pth")
    out = tmp_path / "lite0.safetensors"
    groundcli("weights", "import", "tf_efficientnet_lite0", tmp_path / "lite0.pth", "--out", out)
    from groundcli.recipe import load_recipe

    settings = ["model.visual.backbone=tf_efficientnet_lite0", f"model.visual.weights={out}"]
    backbone = load_backbone(load_recipe("lite", settings).model)
    assert torch.equal(backbone.network.state_dict()["conv_stem.weight"], state["conv_stem.weight"])


def test_a_missing_file_is_one_line(groundcli: Run, tmp_path: Path) -> None:
    done = groundcli("weights", "import", "word_pieces", tmp_path / "none", "--out", tmp_path / "x", code=3)
    assert f"{tmp_path / 'none'}: expected a folder with model.safetensors and vocab.txt" in done.stderr
    assert len(done.stderr.splitlines()) == 1
