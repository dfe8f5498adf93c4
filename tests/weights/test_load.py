from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError
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


@pytest.mark.slow
def test_a_checkpoint_whose_tensors_do_not_fit_is_refused(tmp_path: Path) -> None:
    tensors, metadata = checkpoint.load(find("lite"))
    del tensors["model/visual_mapping.scale"]
    checkpoint.save(tmp_path / "less.safetensors", tensors, metadata)
    with pytest.raises(GroundcliError, match=r"its tensors don't fit its recipe.*visual_mapping.scale"):
        load_model(str(tmp_path / "less.safetensors"))


def write_model(path: Path, **changes: object) -> Path:
    """A copy of `lite` whose recipe has other values, `visual__weights` and so on."""
    tensors, metadata = checkpoint.load(find("lite"))
    for key, value in changes.items():
        group, name = key.split("__")
        metadata["recipe"]["model"][group][name] = value
    checkpoint.save(path, tensors, metadata)
    return path


@pytest.mark.parametrize("backbone", ["hf-hub:someone/model", "local-dir:/tmp", "../vgg16", "resnet50"])
def test_only_listed_backbones_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("timm was asked"))
    path = write_model(tmp_path / "evil.safetensors", visual__backbone=backbone)
    with pytest.raises(UsageError, match=rf"evil.safetensors: model.visual.backbone = '{backbone}'; expected vgg16, "):
        load_model(str(path))


@pytest.mark.parametrize("elsewhere", ["a/lite2.safetensors", "/etc/passwd", "\\\\host\\share", "here"])
def test_a_file_from_elsewhere_names_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_bytes(find("efficientnet_lite2").read_bytes())
    path = write_model(tmp_path / "evil.safetensors", visual__weights=elsewhere)
    what = "weights that aren't here" if elsewhere == "here" else "a path, which only a run in its folder may name"
    with pytest.raises(GroundcliError) as error:
        load_model(str(path))
    assert str(error.value) == (
        f"{path}: stands on {elsewhere}, {what}; `groundcli weights import` those weights, and name them with --set"
    )


@pytest.mark.slow
def test_a_run_in_its_folder_may_name_paths_and_so_may_the_user(tmp_path: Path) -> None:
    words = tmp_path / "words.safetensors"
    words.write_bytes(find("minilm_words").read_bytes())
    path = write_model(tmp_path / "best.safetensors", text__encoders=[str(words)])
    tensors, metadata = checkpoint.load(path)
    metadata["frozen"][str(words)] = metadata["frozen"].pop("minilm_words")
    checkpoint.save(path, tensors, metadata)
    with pytest.raises(GroundcliError, match="a path, which only a run in its folder may name"):
        load_model(str(path))
    (tmp_path / "run.json").write_text("{}")
    assert load_model(str(tmp_path)).recipe.model.text.encoders == (str(words),)
    loaded = load_model("lite", [f'model.visual.weights="{find("efficientnet_lite2")}"', "model.smooth=false"])
    assert (loaded.recipe.model.smooth, loaded.recipe.model.parts[1]) == (False, "minilm_words")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("model.visual.levels=['blocks.4', 'blocks.9']", "model.visual.levels: .* no module named 'blocks.9'"),
        ("model.visual.image_size=1_000_000", "model.visual.image_size = 1000000; expected 32 to 4096"),
        ("model.visual.image_size=-288", "model.visual.image_size = -288; expected 32 to 4096"),
        ("model.visual.grid=0", "model.visual.grid = 0; expected 1 to 256"),
    ],
)
def test_recipes_that_can_not_be_are_one_line(setting: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        load_model("lite", [setting])
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_checkpoint_of_no_numbers_is_refused(tmp_path: Path) -> None:
    tensors, metadata = checkpoint.load(find("lite"))
    tensors["model/visual_mapping.scale"][0] = torch.nan
    checkpoint.save(tmp_path / "nan.safetensors", tensors, metadata)
    with pytest.raises(GroundcliError, match=r"nan.safetensors: visual_mapping.scale has values that are not finite"):
        load_model(str(tmp_path / "nan.safetensors"))


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ("no JSON", "damaged: its metadata can't be read"),
        ("null", "damaged: its metadata can't be read"),
        ("[]", "damaged: its metadata can't be read"),
        ("[" * 100_000, "damaged: its metadata can't be read"),
        ("{}", "not a trained model"),
        ('{"recipe": {}}', "not a trained model"),
        ('{"recipe": [], "frozen": {}}', "not a trained model"),
        ('{"recipe": {}, "frozen": {}}', "model is missing"),
    ],
)
def test_metadata_of_something_else_is_one_line(tmp_path: Path, metadata: str, says: str) -> None:
    save_file({"model/a": torch.zeros(1)}, tmp_path / "odd.safetensors", {"groundcli": metadata})
    with pytest.raises(GroundcliError, match=rf"odd.safetensors: .*{says}") as error:
        load_model(str(tmp_path / "odd.safetensors"))
    assert "\n" not in str(error.value)
