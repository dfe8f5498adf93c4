"""What a command can be told, written once.

The options of a command are a frozen dataclass: its fields' help is the help on the command line, its values go into
`run.json`, and it is the argument of the function that does the work. Nothing here imports torch or typer.
"""

import dataclasses
import difflib
import json
import shlex
import types
import typing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from groundcli.errors import UsageError

REQUIRED: Any = dataclasses.MISSING
O = TypeVar("O", bound="Options")  # noqa: E741 - short for Options

Precision = Literal["auto", "float32", "bf16"]  # in training
AnyPrecision = Literal["auto", "float32", "bf16", "int8"]  # of a trained model
RuntimeName = Literal["auto", "onnx", "torch"]
MOST = 2**31 - 1  # of a number that has no other bound
MIN_SCORE = 0.05  # keeps 99 % of the right points of validation images (`groundcli calibrate` prints it)


def option(
    help: str,
    default: Any = REQUIRED,
    *,
    flag: str = "",
    metavar: str | None = None,
    min: float | None = None,
    max: float | None = None,
    argument: bool = False,
    decides: bool = False,
) -> Any:
    """A field of an options class.

    Args:
        help: for the command line, one sentence or two.
        default: its value where nothing is said; without one it is required.
        flag: its name on the command line, if not the field's with dashes.
        metavar: what stands for its value in the help.
        min: the least number that it can be.
        max: the greatest, where there is a least; without one `MOST`.
        argument: whether it is told by its place, not by a flag.
        decides: whether results depend on it, so that no run with another value goes on.
    """
    about = {"help": help, "flag": flag, "metavar": metavar, "min": min, "max": max}
    return dataclasses.field(default=default, metadata={**about, "argument": argument, "decides": decides})


@dataclass(frozen=True, kw_only=True)
class Options:
    """The base of all options classes."""

    called: ClassVar[str] = ""  # the command

    def __post_init__(self) -> None:
        """Refuses what contradicts itself, by the flags' names. Raises UsageError."""
        for field in dataclasses.fields(self):
            value, least, most = getattr(self, field.name), field.metadata["min"], field.metadata["max"]
            numbers = [one for one in (value if isinstance(value, tuple) else (value,)) if one is not None]
            for one in numbers if least is not None else ():
                if not least <= one <= (most or MOST):
                    fits = f"{least:g} to {most or MOST:,}" if most or one > least else f"{least:g} or more"
                    raise UsageError(f"{flag_of(field)} {one}: expected {fits}")

    @classmethod
    def make(cls: type[O], **values: Any) -> O:
        """Options from plain values: text for paths, one for several, lists for tuples, None where nothing is said.

        Raises:
            UsageError: an option that there isn't (the nearest one is suggested), one that is missing, or a value of
                another type.
        """
        hints = typing.get_type_hints(cls)
        for name in values:
            if name not in hints:
                near = difflib.get_close_matches(name, hints, n=1)
                raise UsageError(f"{name}: no such option" + (f"; did you mean {near[0]}?" if near else ""))
        flags = {field.name: flag_of(field) for field in dataclasses.fields(cls)}
        given = {name: value for name, value in values.items() if value is not None}
        for field in dataclasses.fields(cls):
            if field.default is REQUIRED and given.get(field.name, ()) in ((), []):
                raise UsageError(f"{flags[field.name]} is missing")
        return cls(**{name: _value(hints[name], value, flags[name]) for name, value in given.items()})

    def arguments(self) -> dict[str, Any]:
        """All options, ready for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(vars(self), default=str))
        return plain

    @property
    def command(self) -> str:
        """What gives these options on the command line."""
        words = ["groundcli", self.called]
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), flag_of(field)
            if value == field.default:
                continue
            if isinstance(value, bool):
                words.append(flag if value else flag.replace("--", "--no-"))
                continue
            said = [] if field.metadata["argument"] else [flag]
            words += chain.from_iterable([*said, str(one)] for one in (value if isinstance(value, tuple) else [value]))
        return shlex.join(words)

    @classmethod
    def deciding(cls) -> list[str]:
        """Names of the options that results depend on."""
        return [field.name for field in dataclasses.fields(cls) if field.metadata["decides"]]


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(Options):
    """Where a command computes."""

    device: str = option("auto, cpu, cuda or cuda:N; auto takes a GPU where there is one.", "auto")


@dataclass(frozen=True, kw_only=True)
class CaptionOptions(Options):
    """Where the captions of images are."""

    captions: Path | None = option("File or folder of captions. Default: found beside the images.", None, decides=True)
    image_column: str | None = option("Of a table of captions: the column that names the image.", None, decides=True)
    caption_column: str | None = option("Of a table of captions: the column with the caption.", None, decides=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.captions is None and (self.image_column or self.caption_column):
            raise UsageError("--image-column, --caption-column: of which file? Name it with --captions")

    @property
    def columns(self) -> tuple[str | None, str | None]:
        """Of a table: that of the image and that of the caption."""
        return self.image_column, self.caption_column


@dataclass(frozen=True, kw_only=True)
class ModelOptions(DeviceOptions):
    """Which trained model a command uses, and how."""

    weights: str = option("Name of weights (`groundcli weights list`), or path of a checkpoint.", "lite")
    settings: tuple[str, ...] = option(
        "Overrides a value of the model's recipe, such as model.text.elmo_backend=allennlp; repeatable.",
        (),
        flag="--set",
        metavar="KEY=VALUE",
        decides=True,
    )
    precision: AnyPrecision = option(
        "auto: bf16 on a GPU that has it, else float32; int8: on CPUs, where the weights have such an export.",
        "auto",
        decides=True,
    )
    runtime: RuntimeName = option(
        "onnx: ONNX Runtime, on CPUs, where the weights were exported to it; torch; auto: onnx where it can be.",
        "auto",
        decides=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision == "int8" and self.runtime == "torch":
            raise UsageError("--precision int8 is computed by ONNX Runtime; leave --runtime torch out")


def flag_of(field: "dataclasses.Field[Any]") -> str:
    """What an option is called on the command line."""
    if field.metadata["argument"]:
        return field.name.upper()
    return str(field.metadata["flag"] or "--" + field.name.replace("_", "-"))


def parts_of(hint: Any) -> tuple[Any, bool, bool]:
    """A field's type without what is around it, whether it may be None, and whether it is a tuple of any length."""
    optional = many = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
        optional = True
    if typing.get_origin(hint) is tuple:
        hint, many = typing.get_args(hint)[0], True
    return hint, optional, many


def one_of(name: str, value: object, kind: Any) -> Any:
    """The one of a Literal's values that this is: the text itself, where typer gives an Enum's member that equals it.

    Raises:
        UsageError: it is none of them.
    """
    known = typing.get_args(kind)
    if value not in known:
        raise UsageError(f"{name} {value}: expected {', '.join(map(str, known))}")
    return known[known.index(value)]


def _value(hint: Any, value: Any, flag: str) -> Any:
    kind, _, many = parts_of(hint)
    if many:
        return tuple(_single(kind, one, flag) for one in (value if isinstance(value, list | tuple) else [value]))
    return _single(kind, value, flag)


def _single(kind: Any, value: Any, flag: str) -> Any:
    if typing.get_origin(kind) is Literal:
        return one_of(flag, value, kind)
    if kind is Path and isinstance(value, str):
        if not value:  # more likely a shell's variable without a value than the folder that one is in
            raise UsageError(f"{flag}: the path is empty; name a file or a folder")
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{flag} {value!r}: expected {getattr(kind, '__name__', kind)}")
    return value
