"""The command line made of options classes: a flag per field, with the field's help."""

import dataclasses
import typing
from collections.abc import Callable
from enum import Enum
from inspect import Parameter, Signature
from typing import Annotated, Any, Literal

import typer

from groundcli.options import REQUIRED, O, flag_of, parts_of


def add_command(app: typer.Typer, name: str, kind: type[O], run: Callable[[O], None]) -> None:
    """Adds a command to an app of typer, with options of this class; what it runs has its help as docstring."""

    def call(**values: Any) -> None:
        run(kind.make(**values))

    hints = typing.get_type_hints(kind)
    fields = sorted(dataclasses.fields(kind), key=lambda field: field.default is not REQUIRED)
    parameters = [_parameter(field, hints[field.name]) for field in fields]
    # typer builds a command from a function's signature
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = run.__doc__
    app.command(name)(call)


def _parameter(field: "dataclasses.Field[Any]", hint: Any) -> Parameter:
    about = field.metadata
    kind, optional, many = parts_of(hint)
    if typing.get_origin(kind) is Literal and many:  # typer takes no list of a Literal
        kind = Enum(field.name, {str(value): str(value) for value in typing.get_args(kind)}, type=str)  # type: ignore
    shown = list[kind] if many else kind  # type: ignore[valid-type]
    required = field.default is REQUIRED
    if optional or (many and not required):
        shown = shown | None  # type: ignore[assignment]
    common: dict[str, Any] = {"help": about["help"], "metavar": about["metavar"], "min": about["min"]}
    if about["argument"]:
        info: Any = typer.Argument(**common)
    else:
        flag = flag_of(field)
        if kind is bool and field.default is True:
            flag = f"{flag}/--no-{flag.removeprefix('--')}"
        info = typer.Option(flag, **common, show_default=not many and field.default not in (None, "", False))
    default = Parameter.empty if required else None if many else field.default
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[shown, info])
