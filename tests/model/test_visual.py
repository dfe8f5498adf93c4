from dataclasses import replace

import pytest
import torch
from torch import nn

from groundcli.model.visual import (
    Backbone,
    DepthwiseConv,
    PointConv,
    SameConv,
    VisualMapping,
    normalise,
    resize,
    whole_backbone,
)
from groundcli.recipe import VisualConfig

CONFIG = VisualConfig("tf_efficientnet_lite0", "", ("blocks.4", "blocks.5"), 64, 4, (8,), output_stride=16)


def test_a_backbone_gives_its_named_levels_on_one_grid() -> None:
    backbone = Backbone(CONFIG)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert [m.shape for m in backbone(images)] == [(2, 112, 4, 4), (2, 192, 4, 4)]
    assert backbone.channels == [112, 192]
    assert not any(p.requires_grad for p in backbone.parameters())


def test_a_frozen_backbone_stays_in_evaluation() -> None:
    backbone = Backbone(CONFIG).train()
    assert not any(module.training for module in backbone.modules())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "pnasnet5large"])
def test_folded_norms_give_the_same_maps(name: str) -> None:
    levels = ("cell_0", "cell_1") if name == "pnasnet5large" else CONFIG.levels
    backbone = Backbone(VisualConfig(name, "", levels, 64, 4, (8,)))
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean = torch.randn(norm.num_features)
        norm.running_var = torch.rand(norm.num_features) + 0.5
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    before = backbone(images)
    backbone.fold()
    assert sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()) < len(norms) / 10
    for one, other in zip(before, backbone(images), strict=True):
        torch.testing.assert_close(other / one.abs().max(), one / one.abs().max(), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 75])  # halves are even, or odd
def test_folded_padding_changes_no_bit(side: int) -> None:
    backbone = Backbone(CONFIG)
    backbone.fold()
    images = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    folded = backbone(images)
    unfolded = {
        name: module.conv for name, module in backbone.extractor.named_modules() if isinstance(module, SameConv)
    }
    assert len(unfolded) == 4
    for name, conv in unfolded.items():
        backbone.extractor.set_submodule(name, conv)
    for one, other in zip(folded, backbone(images), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
def test_maps_do_not_depend_on_the_number_of_threads() -> None:
    backbone = Backbone(CONFIG)
    backbone.fold()
    images = torch.randint(0, 256, (1, 3, 160, 160), dtype=torch.uint8)
    threads, maps = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            maps.append(backbone(images))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for own in maps[1:] for one, other in zip(maps[0], own, strict=True))


@pytest.mark.slow
def test_an_image_gives_the_same_maps_in_any_batch() -> None:
    backbone = Backbone(CONFIG)
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    for together, alone in zip(backbone(images), backbone(images[1:2]), strict=True):
        assert torch.equal(together[1:2], alone)


def test_a_level_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"no module named 'blocks.9'"):
        Backbone(VisualConfig("tf_efficientnet_lite0", "", ("blocks.9",), 64, 4, (8,)))


def test_cell_norm_makes_every_cell_one_long() -> None:
    v = normalise(torch.randn(2, 3, 9, 8), "cell")
    torch.testing.assert_close(v.norm(dim=-1), torch.ones(2, 3, 9))


def test_image_norm_keeps_the_ratio_of_cells() -> None:
    cells = torch.tensor([[[3.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    v = normalise(cells, "image")
    assert v.square().sum(-1).mean().item() == pytest.approx(1)
    assert v[0, 1].tolist() == [0, 0]
    assert (v[0, 0, 0] / v[0, 2, 1]).item() == pytest.approx(3)


def test_resize_averages_whole_factors_and_interpolates_others() -> None:
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert resize(maps, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resize(maps, 3).shape == (1, 1, 3, 3)
    assert resize(maps, 4) is maps


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "local-dir:/tmp", "resnet50", "./vgg16", ""])
def test_only_listed_architectures_are_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("timm was asked"))
    with pytest.raises(ValueError, match="is none of the architectures that are known"):
        whole_backbone(name)
    with pytest.raises(ValueError, match="is none of the architectures that are known"):
        Backbone(VisualConfig(name, "", ("blocks.1",), 64, 4, (8,)))


def test_the_scale_brings_levels_to_one_size() -> None:
    mapping = VisualMapping([4, 6], CONFIG)
    maps = [100 * torch.rand(2, 4, 4, 4), 0.01 * torch.rand(2, 6, 4, 4)]
    mapping.set_scale(maps)
    for m, scale in zip(maps, mapping.scale, strict=True):
        assert (m * scale).square().mean().item() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("kernel", [1, 3])
def test_both_kernels_keep_the_grid(kernel: int) -> None:
    mapping = VisualMapping([4], VisualConfig("", "", ("a",), 0, 5, (8, 8), kernel=kernel))
    assert mapping([torch.rand(2, 4, 5, 5)], 5).shape == (2, 1, 25, 8)


# --- Vision transformers

VIT = VisualConfig("vit_tiny_patch16_224", "", ("blocks.2", "blocks.5"), 64, 4, (8,))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "patch", "tokens"),  # tokens of no patch: DINOv2's have a class and four registers, SigLIP's have none
    [
        ("vit_tiny_patch16_224", 16, 1),
        ("vit_small_patch14_reg4_dinov2", 14, 5),
        pytest.param("vit_base_patch16_siglip_gap_384", 16, 0, marks=pytest.mark.slow),
    ],
)
def test_the_levels_of_a_transformer_are_its_patches(name: str, patch: int, tokens: int) -> None:
    backbone = Backbone(replace(VIT, backbone=name, levels=("blocks.5", "blocks.2")))
    backbone.fold()  # changes nothing of it
    vit = backbone.extractor
    assert len(vit.blocks) == 6  # what comes after the last level is never computed
    seen = {}
    for i in (2, 5):
        vit.blocks[i].register_forward_hook(lambda _module, _inputs, out, i=i: seen.update({i: out}))
    images = torch.randint(0, 256, (1, 3, 3 * patch, 2 * patch), dtype=torch.uint8)
    with torch.no_grad():
        for maps, block in zip(backbone(images), (5, 2), strict=True):
            cells = vit.norm(seen[block])
            assert cells.shape[1] == tokens + 6
            assert torch.equal(maps, cells[:, tokens:].transpose(1, 2).view(1, -1, 3, 2))
    assert backbone.channels == [vit.embed_dim] * 2


@pytest.mark.slow
@pytest.mark.parametrize(("side", "cells"), [(224, 14), (64, 4), (100, 7), (330, 21)])
def test_a_transformer_takes_images_of_any_size(side: int, cells: int) -> None:
    backbone = Backbone(VIT)
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    assert [m.shape for m in backbone(images)] == [(2, 192, cells, cells)] * 2


@pytest.mark.parametrize("side", [64, 75])  # 75 pixels are 4.7 patches
@pytest.mark.parametrize(("x", "y"), [(0.1, 0.9), (0.9, 0.1), (0.6, 0.4)])
def test_what_is_at_a_place_is_in_its_cell(side: int, x: float, y: float) -> None:
    torch.manual_seed(0)
    backbone = Backbone(replace(VIT, levels=("blocks.0",)))
    torch.nn.init.zeros_(backbone.extractor.blocks[0].attn.proj.weight)  # each cell by itself
    plain = torch.full((1, 3, side, side), 128, dtype=torch.uint8)
    spotted = plain.clone()
    spotted[:, :, int(y * side), int(x * side)] = 255
    change = (backbone(spotted)[0] - backbone(plain)[0]).norm(dim=1)[0]
    count = len(change)
    assert divmod(int(change.argmax()), count) == (int(y * count), int(x * count))


def test_other_position_embeddings_than_those_of_its_size_are_resampled() -> None:
    backbone = Backbone(replace(VIT, levels=("blocks.0",)))
    plain = torch.full((1, 3, 448, 448), 128, dtype=torch.uint8)
    columns = backbone.extractor.pos_embed.data[0, 1:].view(14, 14, 192)
    columns.copy_(torch.linspace(-1, 1, 14).view(1, 14, 1).expand_as(columns) * torch.randn(192))
    (maps,) = backbone(plain)  # 28 x 28 cells, which only differ by their place
    assert (maps.std(2) < 1e-3).all()
    distance = (maps[0, :, 0] - maps[0, :, 0, :1]).norm(dim=0)
    assert (distance.diff() > 0).all()


@pytest.mark.parametrize("level", ["blocks.12", "blocks.3.attn", "norm"])
def test_other_levels_of_a_transformer_do_not_exist(level: str) -> None:
    with pytest.raises(ValueError, match=f"vit_tiny_patch16_224 has no block named '{level}'"):
        Backbone(replace(VIT, levels=(level,)))


# --- Stages that are tuned


def tuned(
    levels: tuple[str, ...] = ("blocks.4", "blocks.5"), stages: tuple[str, ...] = ("blocks.4", "blocks.5")
) -> Backbone:
    torch.manual_seed(0)
    backbone = Backbone(replace(CONFIG, levels=levels, tuned=stages))
    backbone.fold()
    return backbone


@pytest.mark.slow
def test_both_parts_of_a_backbone_give_what_it_gives() -> None:
    backbone = tuned()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    whole = backbone(images)
    before, rest = backbone.split()
    assert (before.levels, before.channels, before.tuned) == (("before blocks.4",), [80], ())
    (maps,) = before(images)
    for one, other in zip(whole, rest(maps), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_backbone_that_cannot_be_split_there() -> None:
    with pytest.raises(ValueError, match=r"blocks\.5 must come no later than the first level"):
        tuned(("blocks.3", "blocks.5"), stages=("blocks.5",)).split()
    with pytest.raises(ValueError, match="no level comes after no stage"):
        tuned(stages=()).split()


def test_what_is_tuned_learns_and_nothing_else() -> None:
    backbone = tuned()
    parameters = backbone.tuned_parameters()
    for parameter in parameters:
        parameter.requires_grad_(True)
    before, rest = backbone.split()
    (maps,) = before(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    sum(level.square().mean() for level in rest(maps)).backward()
    names = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert names == {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert all(name.startswith(("extractor.blocks.4.", "extractor.blocks.5.")) for name in names)
    assert len(names) == len(parameters) > 20


@pytest.mark.parametrize(("kernel", "padding", "dilation"), [(3, 1, 1), (5, 2, 1), (5, 4, 2)])
def test_the_gradient_of_depthwise_convolutions_is_torchs(kernel: int, padding: int, dilation: int) -> None:
    plain = nn.Conv2d(6, 6, kernel, padding=padding, dilation=dilation, groups=6).requires_grad_(False)
    ours = DepthwiseConv(6, 6, kernel, padding=padding, dilation=dilation, groups=6).requires_grad_(False)
    ours.load_state_dict(plain.state_dict())
    x, y = (torch.randn(2, 6, 9, 9, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    for conv, maps in ((plain, x), (ours, y)):
        conv(maps).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_convolutions_of_single_cells_give_the_same_in_training() -> None:
    conv = PointConv(6, 4, 1)
    x = torch.randn(2, 6, 5, 5)
    learning = conv(x)
    torch.testing.assert_close(learning, conv.requires_grad_(False)(x))
