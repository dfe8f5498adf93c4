import subprocess
import sys
from pathlib import Path

import pytest

from groundcli.errors import GroundcliError, UsageError
from groundcli.recipe import RECIPES, load_recipe, recipe_from


@pytest.mark.parametrize("name", [path.stem for path in RECIPES.glob("*.toml")])
def test_every_recipe_loads_and_survives_json(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe_from(recipe.to_dict(), name) == recipe


def test_settings_override() -> None:
    settings = ["training.learning_rate=1", 'model.visual.levels=["blocks.5"]', "model.level_weights=[]"]
    recipe = load_recipe("lite", [*settings, "model.fusion=best"])
    assert recipe.training.learning_rate == 1.0
    assert recipe.model.visual.levels == ("blocks.5",)
    assert recipe.model.fusion == "best"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.batch_size=1", r"training.batch_size = 1; expected 2 to 1e\+09"),
        ("model.visual.grids=9", r"unknown key model.visual.grids; did you mean model.visual.grid\?"),
        ("training.epochs=1.5", "training.epochs = 1.5 is of the wrong type; expected int"),
        ("training.epochs=true", "training.epochs = True is of the wrong type; expected int"),
        ("training=3", "training must be a group of settings"),
        ("training.epochs", "expected KEY=VALUE"),
        ("training.epochs.more=3", "epochs is a value, not a group of settings"),
        ("model.fusion=bset", "model.fusion = 'bset'; expected best, average or peaks"),
        ("model.visual.norm=none", "model.visual.norm = 'none'; expected cell or image"),
        ("training.schedule=step", "training.schedule = 'step'; expected cosine or paper"),
        ("model.level_weights=[1.0]", "model.level_weights has 1 numbers for 2 levels"),
        ("model.level_weights=[0, 0]", "model.level_weights are all 0; expected a level that counts"),
        ("model.text.mapping=[64]", "model.visual.mapping and model.text.mapping end in 256 and 64, not in one"),
    ],
)
def test_contradictions_are_named(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("lite", [setting])


@pytest.mark.parametrize("setting", ['model.visual.tuned=["blocks.11"]', "model.visual.output_stride=16"])
def test_a_transformer_is_frozen_and_of_one_stride(setting: str) -> None:
    with pytest.raises(UsageError, match=r"is a vision transformer, .*; expected model.visual.tuned = \[\] and"):
        load_recipe("dinov2_s14", [setting])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.visual.image_size=-288", "model.visual.image_size = -288; expected 32 to 4096"),
        ("model.visual.image_size=1_000_000", "model.visual.image_size = 1000000; expected 32 to 4096"),
        ("model.visual.grid=0", "model.visual.grid = 0; expected 1 to 256"),
        ("model.visual.levels=[]", "model.visual.levels has 0 values; expected 1 to 64"),
        ("model.visual.mapping=[256, 0]", "model.visual.mapping = 0; expected 1 to 16384"),
        ("model.visual.mapping=[]", "model.visual.mapping has 0 values; expected 1 to 16"),
        ("model.visual.kernel=5", "model.visual.kernel = 5; expected 1 or 3"),
        ("model.visual.kernel=true", "model.visual.kernel = True; expected 1 or 3"),
        ("model.visual.kernel=1.0", "model.visual.kernel = 1.0; expected 1 or 3"),
        ("model.visual.mean=[0.5]", "model.visual.mean has 1 values; expected 3"),
        ("model.visual.std=[0.5, 0, 0.5]", "model.visual.std = 0.0; expected more than 0"),
        ("model.visual.output_stride=7", "model.visual.output_stride = 7; expected 0, 8, 16 or 32"),
        (
            "model.visual.backbone=resnet9000",
            "model.visual.backbone = 'resnet9000'; expected vgg16, pnasnet5large, tf_",
        ),
        (
            "model.visual.backbone=hf-hub:someone/model",
            "model.visual.backbone = 'hf-hub:someone/model'; expected vgg16",
        ),
        ("model.visual.backbone=./vgg16", "model.visual.backbone = './vgg16'; expected vgg16"),
        ("model.text.encoders=[]", "model.text.encoders has 0 values; expected 1 to 64"),
        ("model.text.width=1e9", "model.text.width = 1000000000.0 is of the wrong type; expected int"),
        ("model.text.bilstm=-1", "model.text.bilstm = -1; expected 0 to 16384"),
        ("model.loss.gamma1=0", "model.loss.gamma1 = 0.0; expected more than 0"),
        ("model.loss.word_weight=-1", "model.loss.word_weight = -1.0; expected 0 to 3e+38"),
        ("model.calibration=[1, 2]", "model.calibration has 2 values; expected none, or a constant and its factors"),
        ("model.calibration=[1, 2, nan]", "model.calibration = nan; expected a finite number"),
        ("training.epochs=3000000000", "training.epochs = 3000000000; expected 1 to 1e+09"),
        ("training.learning_rate=1e300", "training.learning_rate = 1e+300; expected 0 to 3e+38"),
        ("training.epochs=0", "training.epochs = 0; expected 1 to 1e+09"),
        ("training.accumulate=0", "training.accumulate = 0; expected 1 to 1e+09"),
        ("training.learning_rate=inf", "training.learning_rate = inf; expected a finite number"),
        ("training.learning_rate=nan", "training.learning_rate = nan; expected a finite number"),
        (f"training.learning_rate={10**400}", "training.learning_rate = inf; expected a finite number"),
        ("training.learning_rate=-1", "training.learning_rate = -1.0; expected 0 to 3e+38"),
        ("training.image_size=31", "training.image_size = 31; expected 0, or 32 to 4096"),
        ("training.seed=-1", "training.seed = -1; expected 0 to 9.22337e"),
        ("training.ema=1", "training.ema = 1.0; expected 0 to below 1"),
        ("training.patience=-1", "training.patience = -1; expected 0 to 1e+09"),
        (f"training.epochs={'9' * 5000}", "is of the wrong type; expected int"),
    ],
)
def test_values_out_of_range_are_named(setting: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_recipe("lite", [setting])
    assert str(error.value).startswith(f"lite: {message}" if message.startswith(("model", "training")) else "lite: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_ends_of_ranges_are_within() -> None:
    settings = ["model.visual.image_size=4096", "model.visual.grid=256", "training.image_size=32", "training.ema=0.999"]
    training = load_recipe("lite", [*settings, "training.learning_rate=0", "training.batch_size=2"]).training
    assert (training.image_size, training.ema, training.learning_rate, training.batch_size) == (32, 0.999, 0.0, 2)


def test_torch_is_not_imported() -> None:
    code = "import sys; from groundcli.recipe import load_recipe; load_recipe('lite'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("model = [")
    with pytest.raises(GroundcliError, match=r"mine.toml: not a recipe"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_a_recipe_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[training]\nepochs = 3\n")
    with pytest.raises(UsageError, match=r"mine.toml: model is missing"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_a_recipe_over_another(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "vgg16_elmo"\n[model.visual]\nkernel = 3\nmapping = [64, 1024]\n')
    mine, base = load_recipe(str(tmp_path / "mine.toml")), load_recipe("vgg16_elmo")
    assert (mine.model.visual.kernel, mine.model.visual.mapping) == (3, (64, 1024))
    assert mine.model.visual.levels == base.model.visual.levels
    assert mine.model.text == base.model.text


@pytest.mark.parametrize("base", ["3", '"SELF"', '"none"'])
def test_a_base_that_is_none(tmp_path: Path, base: str) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(f"base = {base.replace('SELF', str(mine))}\n")
    with pytest.raises(
        GroundcliError, match=r"expected the name or path of another recipe|none: no recipe of this name"
    ):
        load_recipe(str(mine))
