"""The command `groundcli`, also as `python -m groundcli`."""

import os
import signal
import sys

from groundcli.errors import GroundcliError, Interrupted, first_line, legible


def main() -> None:
    """Runs the command line; an error that a user can mend is one line on stderr and an exit code of its own.

    With `GROUNDCLI_DEBUG=1` in the environment the traceback is shown, too.
    """
    try:
        try:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is half done is cleared away
            from groundcli.cli import app  # here, as Ctrl-C may come while it is imported

            app()
        finally:
            _on_signals(signal.SIG_IGN)  # that line is told, whatever comes meanwhile
    except GroundcliError as error:
        _tell(str(error), "" if isinstance(error, Interrupted) else "error: ")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _tell("interrupted")
        sys.exit(Interrupted.exit_code)
    except SystemExit as end:
        if end.code == Interrupted.exit_code:  # Ctrl-C in a command, which typer ends without a word
            _tell("interrupted")
        raise
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a folder that can't be written to, a full disk
        _tell(f"{error.filename or 'the disk'}: {error.strerror or error}", "error: ")
        sys.exit(GroundcliError.exit_code)
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        _tell(f"an error that was not foreseen ({said}); with GROUNDCLI_DEBUG=1 it says where", "error: ")
        sys.exit(GroundcliError.exit_code)
    finally:
        _on_signals(signal.SIG_DFL)  # nothing is left to keep: the interpreter ends at once, without a traceback


def _on_signals(handler: signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _tell(text: str, kind: str = "") -> None:
    """A line for the user; control characters of names are escaped."""
    from rich.console import Console

    if os.environ.get("GROUNDCLI_DEBUG", "0") not in ("", "0"):
        import traceback

        error = cause = sys.exc_info()[1]
        while cause:  # what led to it is shown, too, where an error was raised "from None" for its one line
            cause.__suppress_context__ = False
            cause = cause.__cause__ or cause.__context__
        traceback.print_exception(error)
    stderr = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    stderr.print(f"[red]{kind}[/red]" if kind else "", end="")
    stderr.print(legible(text), markup=False)


if __name__ == "__main__":
    main()
