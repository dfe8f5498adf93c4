"""Recipes: small TOML files that say what a model is and how it is trained."""

import dataclasses
import difflib
import json
import math
import sys
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from groundcli.errors import GroundcliError, UsageError, first_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"


class Range(NamedTuple):
    """What a number may be, both ends included, or how many values a tuple may have; 0 too, where it is a default."""

    low: float
    high: float
    or_zero: bool = False
    text: str = ""

    def __str__(self) -> str:
        return self.text or f"{'0, or ' if self.or_zero else ''}{self.low:g} to {self.high:g}"


MOST, LARGEST = 10**9, 3e38  # whole numbers, and what float32 holds, where there is no other bound
Positive = Annotated[float, Range(math.nextafter(0, 1), LARGEST, text="more than 0, at most 3e38")]
NotNegative = Annotated[float, Range(0, LARGEST)]
Count = Annotated[int, Range(0, MOST)]
Width = Annotated[int, Range(1, 16384)]
Widths = Annotated[tuple[Width, ...], Range(1, 16)]
Names = Annotated[tuple[str, ...], Range(1, 64)]
Rgb = tuple[float, float, float]
# A recipe may come from anywhere, so its backbone is one of these: torchvision's VGG-16, and models of timm. Any CNN
# that has modules with names and can be traced by torch.fx may be added, and any of timm's `VisionTransformer`s.
Architecture = Literal[
    "vgg16",
    "pnasnet5large",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "tf_efficientnet_lite3",
    "tf_efficientnet_lite4",
    "vit_tiny_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch14_dinov2",
    "vit_base_patch14_reg4_dinov2",
    "vit_base_patch16_siglip_gap_384",
]
TRANSFORMERS = "vit_"  # how names of vision transformers begin


@dataclass(frozen=True)
class VisualConfig:
    """Which backbone, which of its layers, and how their cells enter the common space."""

    backbone: Architecture
    weights: str  # name of the backbone's frozen weights, see `groundcli weights list`
    levels: Names  # the backbone's modules whose outputs they are, early to late; a transformer's `blocks.0` and so on
    image_size: Annotated[int, Range(32, 4096)]  # side of the square to which images are resized, whatever their shape
    grid: Annotated[int, Range(1, 256)]  # cells per side, to which every level is bilinearly resized
    mapping: Widths  # of the convolutions of a level's stack; the last one is the common dimension D
    kernel: Literal[1, 3] = 1  # side of those convolutions; 3 is the authors' variant
    bias: bool = True  # whether they have one; without, a cell where the backbone sees nothing stays at zero
    # `cell` normalises every cell to length one (the paper); `image` divides all cells of a level by their root mean
    # square length, so that a faint cell stays faint.
    norm: Literal["cell", "image"] = "cell"
    mean: Rgb = (0.485, 0.456, 0.406)  # what the backbone's images are normalised with, in [0, 1] RGB
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    output_stride: Literal[0, 8, 16, 32] = 0  # pixels per cell of the last level, where one can choose; 0 leaves it
    # The backbone's stages, one after the other up to the last level, that learn too in the end (`training.tuning`),
    # but for batch norms and depthwise filters. None of a vision transformer, whose later blocks need more than maps.
    tuned: Annotated[tuple[str, ...], Range(0, 64)] = ()


@dataclass(frozen=True)
class ElmoConfig:
    """The sizes of an ELMo, as `options.json` of the published ones has them."""

    # (width in characters, number of filters) of each convolution of the character CNN
    filters: Annotated[tuple[tuple[Annotated[int, Range(1, 50)], Width], ...], Range(1, 64)]
    character_dim: Width  # of a character's vector
    highways: Annotated[int, Range(0, 64)]  # layers after the character CNN
    activation: Literal["relu", "tanh"]  # of the character CNN
    hidden: Width  # cells of an LSTM layer and direction
    projection: Width  # of an LSTM layer's output in each direction; every ELMo layer is twice as wide
    layers: Annotated[int, Range(1, 64)] = 2  # of LSTM
    clip: Positive = 3.0  # bound of cells and projections


@dataclass(frozen=True)
class TextConfig:
    """Which text encoders, and how their layers enter the common space."""

    encoders: Names  # of the frozen encoders' weights; their layers are mixed together
    width: Width  # of the mix; a layer of another width gets a linear map of its own
    mapping: Widths  # of the fully connected layers; the last one is the common dimension D
    per_level: bool = False  # whether each level has a mapping, and so a common space, of its own; the paper has one
    # Cells in each direction of a biLSTM that is trained here, over the encoders' words out of context (of an ELMo, its
    # character layer), in place of the ELMo's own LSTM layers; 0 is none.
    bilstm: Annotated[int, Range(0, 16384)] = 0
    elmo_backend: Literal["groundcli", "allennlp"] = "groundcli"  # whose code runs an ELMo


@dataclass(frozen=True)
class LossConfig:
    """What is maximised."""

    gamma1: Positive = 5.0  # sharpness of the log-sum-exp over a caption's words
    gamma2: Positive = 10.0  # inverse temperature of the softmax over a batch's pairs
    # `max` takes every word's best level (the paper); `each` gives every level a loss of its own and averages them, so
    # that no level starves.
    levels: Literal["max", "each"] = "max"
    word_weight: NotNegative = 0.0  # of the contrast of single words, which the paper doesn't have
    word_gamma: Positive = 20.0  # inverse temperature of that contrast


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides what the model computes."""

    visual: VisualConfig
    text: TextConfig
    loss: LossConfig = LossConfig()
    # How a word's heat maps of several levels become one: `best` takes the level that scores highest (the paper),
    # `average` weighs each level by its score; `peaks` does so after each level's heat was divided by its maximum, so
    # that every level and every word of a phrase has its say, however faint.
    fusion: Literal["best", "average", "peaks"] = "best"
    level_weights: tuple[NotNegative, ...] = ()  # factors of the levels in the average; none are all one
    # How sharply a phrase's heat spreads to cells that look alike, the power of their cosine; 0 leaves it where it is.
    spread: Annotated[float, Range(0, 64)] = 0.0
    smooth: bool = False  # whether every cell of a phrase's heat map is averaged with its neighbours, 3 x 3
    # What makes a probability of what is known of a phrase (`groundcli.heat`) and of a box (`groundcli.heat.boxes`);
    # none is known where nobody measured it, and the score stays a cosine.
    calibration: Annotated[tuple[float, ...], Range(3, 11, True, "none, or a constant and its factors")] = ()
    box_calibration: Annotated[tuple[float, ...], Range(9, 9, True, "none, or a constant and eight factors")] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the frozen weights that the model stands on, the backbone's first."""
        return self.visual.weights, *self.text.encoders


@dataclass(frozen=True)
class TuningConfig:
    """How training ends: the tuned stages of the backbone (`model.visual.tuned`) learn along with the mappings.

    What the stages get is computed once and kept, at the natural size of its maps, also mirrored.
    """

    epochs: Count = 0  # passes over the images, after those of `training.epochs`; 0 ends training there
    learning_rate: NotNegative = 3e-4  # of the mappings, at its highest; the schedule begins anew
    stage_rate: NotNegative = 3e-4  # of the backbone's stages
    captions: Annotated[int, Range(1, 16)] = 1  # of each image and step; their losses are averaged
    mirror: bool = False  # learn from half of the images mirrored, as `training.mirror`


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained."""

    epochs: Annotated[int, Range(1, MOST)] = 20  # passes over the images; one caption of each is drawn anew every time
    batch_size: Annotated[int, Range(2, MOST)] = 32  # pairs per step; the others are a pair's negatives
    # Parts in which the mappings take a batch's images, for large batches in little memory: the same loss and gradient
    # for up to half more time.
    accumulate: Annotated[int, Range(1, MOST)] = 1
    learning_rate: NotNegative = 1e-3  # Adam's, at its highest
    schedule: Literal["cosine", "paper"] = "paper"  # to zero after a warm-up, or the paper's two steps down
    warmup: Count = 0  # steps until the highest rate, a quarter of all at most, where the schedule has a warm-up
    weight_decay: NotNegative = 5e-4  # L2 on the convolutions of the visual mapping
    # Side of images and cells per side in training, if not the model's own: in use heat maps may be finer.
    image_size: Annotated[int, Range(32, 4096, or_zero=True)] = 0
    grid: Annotated[int, Range(0, 256)] = 0
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0  # of order, drawn captions and initial weights
    # Compute the backbone's feature maps once and keep them on disk: `lite` has 53 kB per image, the paper's PNASNet
    # 9.4 MB.
    cache_features: bool = False
    # Learn from half of the images mirrored, drawn anew in every epoch, but never from those with a caption that says
    # left or right; needs the backbone in every epoch. Off, as mirroring gave `lite` nothing.
    mirror: bool = False
    # Longest gradient of a step; 0 clips none, as in the paper. For high rates and biLSTMs: gradients may explode.
    clip_norm: NotNegative = 0.0
    # Share of the old weights in a running average of them, that is validated and kept as the model in place of the
    # last step's, such as 0.999; 0 keeps no average: under a cosine to zero the last steps average already.
    ema: Annotated[float, Range(0, math.nextafter(1, 0), text="0 to below 1")] = 0.0
    # Validations without a better one after which training ends; 0 never, as a cosine is best at its end.
    patience: Count = 0
    validate_every: Count = 1  # epochs between two validations, which choose the best epoch; 0 never validates
    tuning: TuningConfig = TuningConfig()  # what follows these epochs


@dataclass(frozen=True)
class Recipe:
    """A model and its training."""

    model: ModelConfig
    training: TrainingConfig = TrainingConfig()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def load_recipe(name: str, settings: Iterable[str] = ()) -> Recipe:
    """A recipe by its name or the path of its file, with `key.key=value` settings over it.

    Raises:
        GroundcliError: no such recipe, or no TOML.
        UsageError: a key that recipes don't have (the nearest one is suggested), a value of another type or out of its
            range, or values that contradict each other.
    """
    return recipe_from(_read(name), name, settings)


def _read(name: str, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The values of a recipe over those of the recipe that it names as its `base`."""
    path = next((path for path in (RECIPES / f"{name}.toml", Path(name)) if path.is_file()), None)
    if path is None:
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise GroundcliError(f"{name}: no recipe of this name and no such file; recipes are {known}")
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number of 5,000 digits
        raise GroundcliError(f"{path}: not a recipe: {first_line(error)}") from None
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str) or base in without:
        raise UsageError(f"{path}: base = {base!r}; expected the name or path of another recipe, not based on this one")
    return _merge(_read(base, without | {name}), values)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Groups of settings are merged, values replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def override(recipe: Recipe, settings: Iterable[str], source: str) -> Recipe:
    """The recipe with `key.key=value` settings over it. Raises UsageError as `load_recipe`."""
    return recipe_from(recipe.to_dict(), source, settings)


def recipe_from(values: dict[str, Any], source: str, settings: Iterable[str] = ()) -> Recipe:
    """A recipe from plain values, and settings over them; `source` names them in errors. Raises UsageError."""
    for setting in settings:
        values = _merge(values, _values(setting))
    recipe: Recipe = _build(Recipe, values, source, "")
    model = recipe.model
    weights, levels = model.level_weights, model.visual.levels
    if weights and len(weights) != len(levels):
        raise UsageError(f"{source}: model.level_weights has {len(weights)} numbers for {len(levels)} levels")
    if weights and not any(weights):
        raise UsageError(f"{source}: model.level_weights are all 0; expected a level that counts")
    if model.visual.backbone.startswith(TRANSFORMERS) and (model.visual.tuned or model.visual.output_stride):
        no = "expected model.visual.tuned = [] and model.visual.output_stride = 0"
        raise UsageError(f"{source}: {model.visual.backbone} is a vision transformer, frozen and of one stride; {no}")
    if recipe.training.tuning.epochs and not model.visual.tuned:
        raise UsageError(f"{source}: training.tuning.epochs needs stages to tune; name them in model.visual.tuned")
    if model.visual.mapping[-1] != model.text.mapping[-1]:
        both = f"{model.visual.mapping[-1]} and {model.text.mapping[-1]}"
        raise UsageError(f"{source}: model.visual.mapping and model.text.mapping end in {both}, not in one dimension")
    return recipe


def check_settings(settings: Iterable[str]) -> None:
    """Refuses settings of keys that no recipe has, before there is one to set them in. Raises UsageError."""
    for setting in settings:
        _values(setting)


def _values(setting: str) -> dict[str, Any]:
    """What `key.key=value` sets, in its groups."""
    key, equals, text = setting.partition("=")
    source = f"--set {setting}"
    if not equals:
        raise UsageError(f"{source}: expected KEY=VALUE, such as training.epochs=5")
    names, kind, where = key.strip().split("."), Recipe, ""
    for name in names:
        if not dataclasses.is_dataclass(kind):
            raise UsageError(f"{source}: {where.rstrip('.')} is a value, not a group of settings")
        kind, where = _hints(kind, where, [name], source)[name], f"{where}{name}."
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text  # a bare word
    for name in reversed(names):
        value = {name: value}
    return value


def _hints(kind: Any, where: str, names: Iterable[str], source: str) -> dict[str, Any]:
    """The annotations of a group of settings, among which these names have to be."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for name in names:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {where}{near[0]}?" if near else f"known are {', '.join(hints)}"
            raise UsageError(f"{source}: unknown key {where}{name}; {hint}")
    return hints


def _build(kind: Any, values: Any, source: str, where: str) -> Any:
    """A group of settings from plain values."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{source}: {where.rstrip('.') or 'the recipe'} must be a group of settings")
    hints = _hints(kind, where, values, source)
    arguments = {key: typed(hints[key], value, source, where + key) for key, value in values.items()}
    for f in dataclasses.fields(kind):
        if f.name not in arguments and f.default is dataclasses.MISSING:
            raise UsageError(f"{source}: {where}{f.name} is missing")
    return kind(**arguments)


def typed(hint: Any, value: Any, source: str, key: str) -> Any:
    """A value as its annotation wants it. Raises UsageError, which names source and key, where it isn't."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, source, key + ".")
    if origin is Annotated:
        value = typed(parts[0], value, source, key)
        several = isinstance(value, tuple)
        number, limits = len(value) if several else value, parts[1]
        if not (limits.low <= number <= limits.high or (limits.or_zero and number == 0)):
            has = f"has {number} values" if several else f"= {number!r}"
            raise UsageError(f"{source}: {key} {has}; expected {limits}")
        return value
    if origin is tuple and isinstance(value, list):
        items = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        if len(value) != len(items):
            raise UsageError(f"{source}: {key} has {len(value)} values; expected {len(items)}")
        return tuple(typed(item, v, source, key) for item, v in zip(items, value, strict=True))
    if origin is Literal:
        if not any(value == part and type(value) is type(part) for part in parts):  # True is no 1
            *others, last = map(str, parts)
            raise UsageError(f"{source}: {key} = {value!r}; expected {', '.join(others)} or {last}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < sys.float_info.max else math.inf
    if not isinstance(hint, type) or not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        expected = getattr(hint, "__name__", str(hint))
        raise UsageError(f"{source}: {key} = {value!r} is of the wrong type; expected {expected}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{source}: {key} = {value!r}; expected a finite number")
    return value
