"""The command `groundcli`, also as `python -m groundcli`."""

import sys

from rich.console import Console

from groundcli.cli.app import app
from groundcli.errors import GroundcliError, Interrupted


def main() -> None:
    """Runs the command line; an error that a user can mend is one line on stderr and an exit code of its own."""
    stderr = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app()
    except GroundcliError as error:
        if not isinstance(error, Interrupted):
            stderr.print("[red]error:[/red]", end=" ")
        stderr.print(str(error), markup=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        stderr.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a folder that can't be written to, a full disk
        stderr.print("[red]error:[/red]", end=" ")
        stderr.print(f"{error.filename or 'the disk'}: {error.strerror or error}", markup=False)
        sys.exit(GroundcliError.exit_code)


if __name__ == "__main__":
    main()
