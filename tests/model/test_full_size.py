"""The paper's recipes at their true size, with random weights: shapes, counts, one forward of each."""

import pytest
import torch

from groundcli.model.elmo import Elmo
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.text import Characters, TextEncoders
from groundcli.model.visual import Backbone
from groundcli.recipe import load_recipe
from groundcli.weights.store import PUBLISHED
from tests.model import grounding_loss, in_common_space

CELLS = {"vgg16": 18, "pnasnet": 19}
VARIANTS = [f"{cnn}_{text}{kernel}" for cnn in CELLS for text in ("elmo", "bilstm") for kernel in ("", "_3x3")]


def millions(module: torch.nn.Module) -> float:
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("elmo_small", 13.6), ("elmo_medium", 28.0), ("elmo_original", 93.6), ("elmo_original_5.5b", 93.6)],
)
def test_published_elmos_have_their_published_size(name: str, expected: float) -> None:
    sizes = PUBLISHED[name].elmo
    assert sizes is not None
    with torch.device("meta"):
        assert millions(Elmo(sizes)) == expected


@pytest.fixture(scope="module", params=CELLS)
def backbone(request: pytest.FixtureRequest) -> tuple[str, Backbone]:
    return request.param, Backbone(load_recipe(f"{request.param}_elmo").model.visual)


@pytest.fixture(scope="module")
def elmo() -> Elmo:
    sizes = PUBLISHED["elmo_original"].elmo
    assert sizes is not None
    return Elmo(sizes)


@pytest.mark.slow
def test_levels_at_299_pixels(backbone: tuple[str, Backbone]) -> None:
    name, network = backbone
    maps = network(torch.randint(0, 256, (1, 3, 299, 299), dtype=torch.uint8))
    expected = {
        "vgg16": [(1, 512, 37, 37), (1, 512, 37, 37), (1, 512, 18, 18), (1, 512, 18, 18)],
        "pnasnet": [(1, 2160, 19, 19), (1, 2160, 19, 19), (1, 4320, 10, 10), (1, 4320, 10, 10)],
    }
    assert [tuple(m.shape) for m in maps] == expected[name]
    assert [m.shape[1] for m in maps] == network.channels
    assert millions(network) == {"vgg16": 14.7, "pnasnet": 81.7}[name]  # without classifiers


@pytest.mark.slow
def test_vgg_levels_are_the_convolutions_of_the_paper_after_their_relu() -> None:
    import torchvision

    layers = torchvision.models.vgg16(weights=None).features
    names, block, convolution = {}, 1, 0
    for i, layer in enumerate(layers):
        if isinstance(layer, torch.nn.MaxPool2d):
            block, convolution = block + 1, 0
        elif isinstance(layer, torch.nn.ReLU):
            convolution += 1
            names[f"features.{i}"] = f"conv{block}_{convolution}"
    levels = load_recipe("vgg16_elmo").model.visual.levels
    assert [names[level] for level in levels] == ["conv4_1", "conv4_3", "conv5_1", "conv5_3"]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["elmo", "bilstm", "elmo_3x3", "bilstm_3x3"])
def test_one_forward_and_backward_of_each_recipe(backbone: tuple[str, Backbone], elmo: Elmo, variant: str) -> None:
    cnn, network = backbone
    recipe = load_recipe(f"{cnn}_{variant}")
    config, grid = recipe.model, CELLS[cnn]
    assert (config.visual.grid, config.visual.image_size, recipe.training.batch_size) == (grid, 299, 32)
    encoders = TextEncoders(None, [Characters(elmo)]) if config.text.bilstm else TextEncoders(elmo, [])
    model = GroundingModel(config, network, encoders)
    widths = [layer.out_channels for layer in model.visual_mapping.stacks[0] if isinstance(layer, torch.nn.Conv2d)]
    stack = {"vgg16": [1024, 1024, 1024], "pnasnet": [2048, 2048, 1024]}[cnn]
    assert widths == ([1024] if variant.endswith("3x3") else stack)
    maps = network(torch.randint(0, 256, (2, 3, 299, 299), dtype=torch.uint8))
    model.visual_mapping.set_scale(maps)
    captions = [["a", "dog"], ["two", "men", "on", "a", "horse"]]
    v, s, z, text = in_common_space(model, maps, captions, grid)
    assert v.shape == (2, 4, grid * grid, 1024)
    assert s.shape == (1, 7, 1024)
    assert z.shape == (1, 2, 1024)
    loss = grounding_loss(v, s, z, text.index, text.mask, config.loss)
    loss.backward()
    assert loss.isfinite()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if not name.startswith(("backbone.", "text."))}
