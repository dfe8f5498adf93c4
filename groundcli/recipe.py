"""Recipes: small TOML files that say what a model is and how it is trained."""

import dataclasses
import difflib
import json
import sys
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from groundcli.errors import GroundcliError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"
T = TypeVar("T")


@dataclass(frozen=True)
class VisualConfig:
    """Which CNN, which of its layers, and how their cells enter the common space.

    Attributes:
        backbone: a model name of timm, or `vgg16` of torchvision.
        weights: the name of the backbone's frozen weights (see `groundcli weights list`).
        levels: names of the backbone's modules whose outputs are the levels, early to late.
        image_size: images are resized to this square, without keeping their aspect ratio.
        grid: every level is bilinearly resized to this many cells a side.
        mapping: widths of the convolutions of a level's stack; the last one is the common dimension D.
        kernel: side of those convolutions: 1, or 3 for the authors' variant.
        bias: whether those convolutions have one; without, a cell where the CNN sees nothing stays at zero.
        norm: `cell` normalises every cell to length one (the paper); `image` divides all cells of a level by
            their root mean square length, so that a faint cell stays faint.
        mean, std: what the backbone's images are normalised with, in [0, 1] RGB.
        output_stride: input pixels to a cell of the last level, where the backbone lets one choose; 0 leaves it.
    """

    backbone: str
    weights: str
    levels: tuple[str, ...]
    image_size: int
    grid: int
    mapping: tuple[int, ...]
    kernel: int = 1
    bias: bool = True
    norm: Literal["cell", "image"] = "cell"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    output_stride: int = 0


@dataclass(frozen=True)
class TextConfig:
    """Which text encoders, and how their layers enter the common space.

    Attributes:
        encoders: names of the frozen encoders' weights; their layers are mixed together.
        width: width of the mix; a layer of another width gets a linear map of its own.
        mapping: widths of the fully connected layers; the last one is the common dimension D.
        per_level: whether each visual level has a mapping, and so a common space, of its own; the paper has one.
        bilstm: cells in each direction of a biLSTM that is trained here, over the encoders' words out of context (of
            an ELMo, its character layer), in place of the ELMo's own LSTM layers; 0 is none.
        elmo_backend: whose code runs an ELMo: groundcli's own, or AllenNLP's where it is installed.
    """

    encoders: tuple[str, ...]
    width: int
    mapping: tuple[int, ...]
    per_level: bool = False
    bilstm: int = 0
    elmo_backend: Literal["groundcli", "allennlp"] = "groundcli"


@dataclass(frozen=True)
class LossConfig:
    """What is maximised.

    Attributes:
        gamma1: sharpness of the log-sum-exp over a caption's words.
        gamma2: inverse temperature of the softmax over a batch's pairs.
        levels: `max` takes every word's best level (the paper); `each` gives every level a loss of its own and
            averages them, so that no level starves.
        word_weight: weight of the contrast of single words, which the paper doesn't have.
        word_gamma: inverse temperature of that contrast.
    """

    gamma1: float = 5.0
    gamma2: float = 10.0
    levels: Literal["max", "each"] = "max"
    word_weight: float = 0.0
    word_gamma: float = 20.0


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides what the model computes.

    Attributes:
        visual: the visual half.
        text: the textual half.
        loss: what training maximises.
        fusion: how a word's heat maps of several levels become one: `best` takes the level that scores highest
            (the paper), `average` weighs each level by its score.
        smooth: whether every cell of a phrase's heat map is averaged with its neighbours, 3 x 3.
        level_weights: factors of the levels in the average; none are all one.
        calibration: what makes a probability of a phrase's heat map, see `groundcli.heat.confidence`; none is
            known where nobody measured it, and the score stays a cosine.
    """

    visual: VisualConfig
    text: TextConfig
    loss: LossConfig = field(default_factory=LossConfig)
    fusion: Literal["best", "average"] = "best"
    level_weights: tuple[float, ...] = ()
    smooth: bool = False
    calibration: tuple[float, ...] = ()


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: passes over the images; one caption of each image is drawn anew every time.
        batch_size: pairs a step; every other pair of the batch is a negative.
        accumulate: parts in which the mappings take a batch's images, for large batches in little memory; the loss and
            its gradient are those of the whole batch, for up to half more time. 1, as all of `lite`'s fits anywhere.
        learning_rate: Adam's, at its highest.
        schedule: `cosine` to zero after a warm-up, or the `paper`'s two steps down.
        warmup: steps until the highest rate, a quarter of all at most, where the schedule has a warm-up.
        weight_decay: L2 on the convolutions of the visual mapping.
        image_size, grid: side of images and cells a side in training, if not the model's own: heat maps may be finer
            in use than in training.
        seed: of order, drawn captions and initial weights.
        cache_features: compute the CNN's feature maps once and keep them on disk, not anew in every epoch. Worth it
            where they are small: `lite` has 53 kB an image, the paper's PNASNet 9.4 MB.
        mirror: learn from half of the images mirrored, drawn anew in every epoch, but never from those with a caption
            that says left or right; needs the CNN in every epoch. Off, as mirroring gave `lite` nothing.
        clip_norm: longest gradient of a step; 0 clips none, as in the paper. For high rates and biLSTMs, whose
            gradients may explode.
        ema: share of the old weights in a running average of them, that is validated and kept as the model in place of
            the last step's, such as 0.999; 0 keeps no average: under a cosine to zero the last steps average already.
        patience: validations without a better one after which training ends; 0 never, as a cosine is best at its end.
        validate_every: epochs between two validations, which choose the best epoch; 0 never validates.
    """

    epochs: int = 20
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "paper"] = "paper"
    warmup: int = 0
    weight_decay: float = 5e-4
    image_size: int = 0
    grid: int = 0
    seed: int = 0
    cache_features: bool = False
    mirror: bool = False
    clip_norm: float = 0.0
    ema: float = 0.0
    patience: int = 0
    validate_every: int = 1


@dataclass(frozen=True)
class Recipe:
    """A model and its training."""

    model: ModelConfig
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def load_recipe(name: str, settings: Iterable[str] = ()) -> Recipe:
    """A recipe by its name or the path of its file, with `key.key=value` settings over it.

    Raises:
        GroundcliError: no such recipe, or no TOML.
        UsageError: a key that recipes don't have (the nearest one is suggested), or a value of another type.
    """
    values = _read(name)
    for setting in settings:
        _set(values, setting)
    return recipe_from(values, name)


def _read(name: str, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The values of a recipe over those of the recipe that it names as its `base`."""
    path = RECIPES / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise GroundcliError(f"{name}: no recipe of this name and no such file; recipes are {known}")
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GroundcliError(f"{path}: not a recipe: {error}") from None
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


def recipe_from(values: Mapping[str, Any], source: str) -> Recipe:
    """A recipe from plain values; `source` names them in errors."""
    recipe = _build(Recipe, values, source, "")
    for key, least in (("batch_size", 2), ("epochs", 1), ("accumulate", 1)):  # a pair alone has no negatives
        if getattr(recipe.training, key) < least:
            raise UsageError(f"{source}: training.{key} = {getattr(recipe.training, key)}; expected {least} or more")
    if not 0 <= recipe.training.ema < 1:
        raise UsageError(f"{source}: training.ema = {recipe.training.ema}; expected a number from 0 to below 1")
    weights, levels = recipe.model.level_weights, recipe.model.visual.levels
    if weights and len(weights) != len(levels):
        raise UsageError(f"{source}: model.level_weights has {len(weights)} numbers for {len(levels)} levels")
    return recipe


def override(recipe: Recipe, settings: Iterable[str], source: str) -> Recipe:
    """The recipe with `key.key=value` settings over it. Raises UsageError as `load_recipe`."""
    values = recipe.to_dict()
    for setting in settings:
        _set(values, setting)
    return recipe_from(values, source)


def _set(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(f"--set {setting}: expected KEY=VALUE, such as training.epochs=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word
    *tables, name = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise UsageError(f"--set {setting}: {table} is a value, not a group of settings")
    values[name] = value


def _build(kind: type[T], values: Any, source: str, where: str) -> T:
    if not isinstance(values, Mapping):
        raise UsageError(f"{source}: {where.rstrip('.') or 'the recipe'} must be a group of settings")
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"did you mean {where}{near[0]}?" if near else f"known are {', '.join(hints)}"
            raise UsageError(f"{source}: unknown key {where}{key}; {hint}")
        arguments[key] = _value(hints[key], value, source, where + key)
    required = (f.name for f in dataclasses.fields(kind) if _is_required(f))  # type: ignore[arg-type]
    missing = [name for name in required if name not in arguments]
    if missing:
        raise UsageError(f"{source}: {where}{missing[0]} is missing")
    return kind(**arguments)


def _is_required(f: "dataclasses.Field[Any]") -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _value(hint: Any, value: Any, source: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, source, key + ".")
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        item = typing.get_args(hint)[0]
        return tuple(_value(item, v, source, key) for v in value)
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise UsageError(f"{source}: {key} = {value!r}; expected {' or '.join(typing.get_args(hint))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(hint, type) or not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        expected = getattr(hint, "__name__", str(hint))
        raise UsageError(f"{source}: {key} = {value!r} is of the wrong type; expected {expected}")
    return value
