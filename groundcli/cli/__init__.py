"""All commands of `groundcli`, a file per command or family of commands: a flag per option, with the option's help."""

import dataclasses
import typing
from collections.abc import Callable
from enum import Enum
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import groundcli
from groundcli.cli import annotate, evaluate, train, weights
from groundcli.options import REQUIRED, O, flag_of, parts_of

app = typer.Typer(
    help="Points at what a caption talks about. It learns from image-caption pairs alone: nobody draws a box.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: in 80 columns the panels cut names of options short
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(help="Lists, downloads, imports, verifies and exports weights.", no_args_is_help=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"groundcli {groundcli.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


def add_command(app: typer.Typer, name: str, run: Callable[[O], None]) -> None:
    """Adds a command to an app of typer: its flags are of the options class that `run` takes, its help is `run`'s."""
    kind: type[O] = typing.get_type_hints(run)["options"]

    def call(**values: Any) -> None:
        run(kind.make(**values))

    hints = typing.get_type_hints(kind)
    fields = sorted(dataclasses.fields(kind), key=lambda field: field.default is not REQUIRED)
    parameters = [_parameter(field, hints[field.name]) for field in fields]
    # typer builds a command from a function's signature
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = run.__doc__
    app.command(name, short_help=(call.__doc__ or "").partition("\n\n")[0])(call)  # not cut short


def _parameter(field: "dataclasses.Field[Any]", hint: Any) -> Parameter:
    about = field.metadata
    kind, optional, many = parts_of(hint)
    if typing.get_origin(kind) is Literal and many:  # typer takes no list of a Literal
        kind = Enum(field.name, {str(value): str(value) for value in typing.get_args(kind)}, type=str)  # type: ignore
    shown = list[kind] if many else kind  # type: ignore[valid-type]
    required = field.default is REQUIRED
    if optional or (many and not required):
        shown = shown | None  # type: ignore[assignment]
    common: dict[str, Any] = {key: about[key] for key in ("help", "metavar", "min", "max")}
    if kind is Path:
        common["parser"] = str  # typer would take "" for the folder that one is in; `Options.make` refuses it
        common["metavar"] = about["metavar"] or (None if about["argument"] else "<path>")
    if about["argument"]:
        info: Any = typer.Argument(**common)
    else:
        flag = flag_of(field)
        if kind is bool and field.default is True:
            flag = f"{flag}/--no-{flag.removeprefix('--')}"
        info = typer.Option(flag, **common, show_default=not many and field.default not in (None, "", False))
    default = Parameter.empty if required else None if many else field.default
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[shown, info])


add_command(app, "annotate", annotate.annotate)
add_command(app, "merge", annotate.merge)
add_command(app, "export", annotate.export)
add_command(app, "eval", evaluate.evaluate)
add_command(app, "calibrate", evaluate.calibrate)
add_command(app, "train", train.train)
add_command(app, "finetune", train.finetune)
add_command(app, "pretrain-elmo", train.pretrain_elmo)
app.add_typer(weights_app, name="weights")
add_command(weights_app, "list", weights.list_weights)
add_command(weights_app, "fetch", weights.fetch_weights)
add_command(weights_app, "import", weights.import_weights)
add_command(weights_app, "verify", weights.verify_weights)
add_command(weights_app, "export", weights.export_weights)
