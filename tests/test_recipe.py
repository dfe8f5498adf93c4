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
        ("training.batch_size=1", "training.batch_size = 1; expected 2 or more"),
        ("model.visual.grids=9", r"unknown key model.visual.grids; did you mean model.visual.grid\?"),
        ("training.epochs=1.5", "training.epochs = 1.5 is of the wrong type; expected int"),
        ("training.epochs=true", "training.epochs = True is of the wrong type; expected int"),
        ("training=3", "training must be a group of settings"),
        ("training.epochs", "expected KEY=VALUE"),
        ("training.epochs.more=3", "epochs is a value, not a group of settings"),
        ("model.fusion=bset", "model.fusion = 'bset'; expected best or average"),
        ("model.visual.norm=none", "model.visual.norm = 'none'; expected cell or image"),
        ("training.schedule=step", "training.schedule = 'step'; expected cosine or paper"),
        ("model.level_weights=[1.0]", "model.level_weights has 1 numbers for 2 levels"),
    ],
)
def test_contradictions_are_named(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("lite", [setting])


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("model = [")
    with pytest.raises(GroundcliError, match=r"mine.toml: not a recipe"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_a_recipe_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[training]\nepochs = 3\n")
    with pytest.raises(UsageError, match=r"mine.toml: model is missing"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_a_recipe_over_another(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "vgg16_elmo"\n[model.visual]\nkernel = 3\nmapping = [64]\n')
    mine, base = load_recipe(str(tmp_path / "mine.toml")), load_recipe("vgg16_elmo")
    assert (mine.model.visual.kernel, mine.model.visual.mapping) == (3, (64,))
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
