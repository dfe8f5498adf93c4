"""The visual half: levels of a frozen backbone, mapped cell by cell into the common space (paper, section 3.1)."""

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast, get_args

import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.layers import Conv2dSame
from timm.models import create_feature_extractor
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from groundcli.recipe import TRANSFORMERS, Architecture, VisualConfig


def whole_backbone(architecture: str, output_stride: int = 0) -> nn.Module:
    """A backbone with random weights, whole, as its weights are published. Raises ValueError for one not on the list.

    timm takes more than names of architectures: it would ask the Hugging Face hub for one that begins with `hf-hub:`.
    """
    if architecture not in get_args(Architecture):
        raise ValueError(f"{architecture!r} is none of the architectures that are known")
    if architecture == "vgg16":
        return cast(nn.Module, torchvision.models.vgg16(weights=None))
    more: Any = {"output_stride": output_stride} if output_stride else {}
    if architecture.startswith(TRANSFORMERS):
        more = {"dynamic_img_size": True}  # its position embeddings are resampled to the image's patches
    return cast(nn.Module, timm.create_model(architecture, pretrained=False, **more))


class Backbone(nn.Module):
    """A network that gives the feature maps of some of its layers; frozen, but for the tuned stages of a CNN.

    The levels of a vision transformer are blocks: the tokens of the patches, as its last norm has them, are the cells
    of a map; tokens of no patch (class, registers) are left out. What comes after the last level is never computed:
    `extractor` is the network up to there. Raises ValueError where it has no layer of a level's name.
    """

    mean: Tensor
    std: Tensor
    extractor: Any

    def __init__(self, config: VisualConfig):
        super().__init__()
        whole: Any = whole_backbone(config.backbone, config.output_stride)
        transformer = isinstance(whole, VisionTransformer)
        names = {f"blocks.{i}" for i in range(len(whole.blocks))} if transformer else dict(whole.named_modules())
        for level in config.levels:
            if level not in names:
                raise ValueError(f"{config.backbone} has no {'block' if transformer else 'module'} named {level!r}")
        self.levels, self.tuned, self.output_stride = config.levels, config.tuned, config.output_stride
        if transformer:
            self.blocks = sorted({int(level.removeprefix("blocks.")) for level in config.levels})
            whole.prune_intermediate_layers(self.blocks)
            self.extractor = whole.eval()
        else:
            self.extractor = create_feature_extractor(whole.eval(), list(config.levels))
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)
        self.channels: list[int] = [m.shape[1] for m in self(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))]

    def train(self, mode: bool = True) -> "Backbone":
        """Frozen: batch norm and dropout always behave as in evaluation."""
        return super().train(False)

    def fold(self) -> None:
        """Folds batch norms into the convolutions before them, and padding into kernels: the same maps, sooner.

        Weights can't be loaded any more afterwards: its tensors have other values and other names.
        """
        if isinstance(self.extractor, VisionTransformer):
            return
        modules = dict(self.extractor.named_modules())
        for node in self.extractor.graph.nodes:
            norm = modules.get(str(node.target))
            before = modules.get(str(node.args[0].target)) if isinstance(norm, nn.BatchNorm2d) else None
            if isinstance(norm, nn.BatchNorm2d) and isinstance(before, nn.Conv2d) and len(node.args[0].users) == 1:
                fused = fuse_conv_bn_eval(before, norm)
                before.weight, before.bias = fused.weight, fused.bias
                self.extractor.set_submodule(node.target, getattr(norm, "act", nn.Identity()))  # timm's norms have one
        for name, conv in modules.items():
            if isinstance(conv, Conv2dSame) and conv.stride == (2, 2) and conv.kernel_size in ((3, 3), (5, 5), (7, 7)):
                if not self._is_tuned(name):  # whose tensors are those of its convolutions
                    self.extractor.set_submodule(name, SameConv(conv))
            elif isinstance(conv, nn.Conv2d) and conv.kernel_size == conv.stride == (1, 1):
                conv.__class__ = PointConv  # the same convolution, computed in another way
            elif type(conv) is nn.Conv2d and 1 < conv.groups == conv.in_channels == conv.out_channels:
                conv.__class__ = DepthwiseConv
        self.requires_grad_(False).to(memory_format=torch.channels_last)

    def _is_tuned(self, name: str) -> bool:
        return any(f"{name}.".startswith(f"{stage}.") for stage in self.tuned)

    def tuned_parameters(self) -> list[nn.Parameter]:
        """What learns of the tuned stages: all but depthwise filters, which take the most time and change little."""
        return [
            parameter
            for name, module in self.extractor.named_modules()
            if isinstance(module, nn.Conv2d) and self._is_tuned(name) and not isinstance(module, DepthwiseConv)
            for parameter in module.parameters()
        ]

    def split(self) -> tuple["Backbone", nn.Module]:
        """The part before the tuned stages, as a backbone whose one level is what they get; and what follows.

        Raises ValueError where the tuned stages need more than one map, or a level comes before them.
        """
        nodes = list(self.extractor.graph.nodes)
        first = next((node for node in nodes if self._is_tuned(str(node.target))), None)
        if first is None:
            raise ValueError(f"no level comes after {', '.join(self.tuned) or 'no stage'}")
        cut, level = nodes.index(first.args[0]), f"before {self.tuned[0]}"
        before, after = fx.Graph(), fx.Graph()
        kept: dict[fx.Node, fx.Node] = {}
        for node in nodes[: cut + 1]:
            kept[node] = before.node_copy(node, kept.__getitem__)
        before.output({level: kept[nodes[cut]]})
        kept = {nodes[cut]: after.placeholder("maps")}
        try:
            for node in nodes[cut + 1 :]:
                kept[node] = after.node_copy(node, kept.__getitem__)
        except KeyError:
            raise ValueError(f"{self.tuned[0]} must come no later than the first level") from None
        part = copy.copy(self)
        part._modules = {**self._modules, "extractor": fx.GraphModule(self.extractor, before)}
        part.levels, part.tuned = (level,), ()
        part.channels = [part(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=self.mean.device))[0].shape[1]]
        return part, Rest(fx.GraphModule(self.extractor, after), self.levels)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Uint8 RGB images (B, 3, S, S) -> one feature map (B, C_l, H_l, W_l) per level.

        On a CPU images go through one by one: what passes between layers stays in the cache, up to twice as fast.
        """
        if images.device.type != "cpu" or len(images) == 1:
            return self._maps(images)
        return [torch.cat(level) for level in zip(*map(self._maps, images.split(1)), strict=True)]

    def _maps(self, images: Tensor) -> list[Tensor]:
        x = images.contiguous(memory_format=torch.channels_last).to(self.mean.dtype)
        x = x.div_(255).sub_(self.mean).div_(self.std)
        out = self._patches(x) if isinstance(self.extractor, VisionTransformer) else self.extractor(x)
        return [out[level] for level in self.levels]

    def _patches(self, x: Tensor) -> dict[str, Tensor]:
        """Maps of a vision transformer, by the names of their levels."""
        # Where patches don't fill an image it is enlarged: padded, as timm would, it wouldn't divide evenly.
        sides = zip(x.shape[-2:], self.extractor.patch_embed.patch_size, strict=True)
        size = tuple(math.ceil(side / patch) * patch for side, patch in sides)
        if x.shape[-2:] != size:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        how: Any = {"norm": True, "stop_early": True, "intermediates_only": True}
        maps = self.extractor.forward_intermediates(x, self.blocks, **how)
        return {f"blocks.{block}": m for block, m in zip(self.blocks, maps, strict=True)}


class Rest(nn.Module):
    """The tuned stages: what they get (B, C, H, W) -> one feature map (B, C_l, H_l, W_l) per level.

    A few images at a time on a CPU: what they need, and their gradients, stay in its caches.
    """

    AT_ONCE = 8

    def __init__(self, stages: nn.Module, levels: Sequence[str]):
        super().__init__()
        self.stages, self.levels = stages, levels
        module: Any
        for module in stages.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # in place of a view, as `PointConv` gives, autograd copies all of it

    def forward(self, maps: Tensor) -> list[Tensor]:
        """See above."""
        maps = maps.contiguous(memory_format=torch.channels_last)
        parts = [self.stages(part) for part in maps.split(self.AT_ONCE if maps.device.type == "cpu" else len(maps))]
        return [torch.cat([part[level] for part in parts]) for level in self.levels]


class SameConv(nn.Module):
    """A convolution with stride 2 and TensorFlow's `SAME` padding, without a padded copy where sides are even.

    There, with an odd kernel, one more line and column is padded at the end than at the start. A kernel with a line
    and column of zeros before the others comes to the same with as many at both ends.
    """

    def __init__(self, conv: Conv2dSame):
        super().__init__()
        self.conv = conv
        self.weight = nn.Parameter(F.pad(conv.weight, (1, 0, 1, 0)))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) -> (B, D, ceil(H / 2), ceil(W / 2))."""
        if x.shape[-2] % 2 or x.shape[-1] % 2 or torch.compiler.is_exporting():  # ONNX Runtime pads without a copy
            return cast(Tensor, self.conv(x))
        return F.conv2d(x, self.weight, self.conv.bias, 2, self.conv.kernel_size[0] // 2, 1, self.conv.groups)


class PointConv(nn.Conv2d):
    """A convolution of single cells.

    At inference by oneDNN, whose sums are the same with any number of threads: with one thread torch wouldn't use it
    there, unless the convolution is dilated, which means nothing to single cells. In training on a CPU a matrix
    product, as its gradients are quicker.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) -> (B, D, H, W)."""
        cpu = x.device.type == "cpu"
        if cpu and self.weight.requires_grad and self.groups == 1 and self.padding == (0, 0):
            return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        dilation = 2 if cpu and torch.backends.mkldnn.is_available() else 1
        return F.conv2d(x, self.weight, self.bias, padding=self.padding, dilation=dilation, groups=self.groups)


class DepthwiseConv(nn.Conv2d):
    """A convolution of each channel by itself, whose filters are frozen."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) -> (B, C, H', W')."""
        if x.device.type == "cpu" and x.requires_grad and self.stride == (1, 1):
            return cast(Tensor, _Depthwise.apply(x, self.weight, self.bias, self.padding, self.dilation))
        return super().forward(x)


class _Depthwise(torch.autograd.Function):
    """With stride 1. Its gradient, of the maps alone, is a convolution with the filters turned round: torch's own takes
    ten times as long on CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: Any, dilation: Any) -> Tensor:
        out = F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=len(weight))
        ctx.save_for_backward(weight.to(out.dtype))  # in bf16 where autocast says so
        reach = [d * (k - 1) - p for k, p, d in zip(weight.shape[2:], padding, dilation, strict=True)]
        ctx.how, ctx.dtype = (reach, dilation), x.dtype
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (padding, dilation) = ctx.saved_tensors, ctx.how
        back = F.conv2d(gradient, weight.flip(2, 3), None, padding=padding, dilation=dilation, groups=len(weight))
        return back.to(ctx.dtype), None, None, None, None


class VisualMapping(nn.Module):
    """Each level's own stack of convolutions, each followed by LeakyReLU(0.25), then a norm."""

    scale: Tensor

    def __init__(self, channels: Sequence[int], config: VisualConfig):
        super().__init__()
        self.norm = config.norm
        self.register_buffer("scale", torch.ones(len(channels)))
        self.stacks = nn.ModuleList()
        for first in channels:
            layers: list[nn.Module] = []
            for given, out in pairwise([first, *config.mapping]):
                conv = nn.Conv2d(given, out, config.kernel, padding=config.kernel // 2, bias=config.bias)
                nn.init.kaiming_normal_(conv.weight, a=0.25)
                layers += [conv, nn.LeakyReLU(0.25, inplace=True)]  # its input is kept no longer
            self.stacks.append(nn.Sequential(*layers))

    def set_scale(self, maps: Sequence[Tensor]) -> None:
        """Scales every level so that these feature maps have root mean square one: layers learn at one pace."""
        self.scale.copy_(torch.stack([m.float().square().mean().clamp_min(1e-12).rsqrt() for m in maps]))

    def forward(self, maps: Sequence[Tensor], grid: int) -> Tensor:
        """Feature maps (B, C_l, H_l, W_l) -> cells (B, L, N, D) of a grid x grid, N = grid * grid, line by line."""
        levels = [stack(resize(m, grid) * scale) for stack, m, scale in zip(self.stacks, maps, self.scale, strict=True)]
        v = torch.stack(levels, dim=1).flatten(3).transpose(2, 3)  # (B, L, N, D)
        return normalise(v.float(), self.norm)


def resize(maps: Tensor, grid: int) -> Tensor:
    """Feature maps (B, C, H, W) -> (B, C, grid, grid): averaged down by whole factors, else bilinear."""
    height, width = maps.shape[-2:]
    if (height, width) == (grid, grid):
        return maps
    if height % grid == 0 and width % grid == 0:
        return F.avg_pool2d(maps, (height // grid, width // grid))
    return F.interpolate(maps, size=(grid, grid), mode="bilinear", align_corners=False)


def normalise(v: Tensor, norm: str) -> Tensor:
    """Cells (..., N, D) scaled each to length one (`cell`) or together to root mean square length one (`image`)."""
    if norm == "cell":
        return F.normalize(v, dim=-1)
    return v * v.square().sum(-1, keepdim=True).mean(-2, keepdim=True).clamp_min(1e-12).rsqrt()
