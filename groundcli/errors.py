"""What groundcli says when it can't go on: one line that names the file and the way out."""


class GroundcliError(Exception):
    """An error for the user to read. The command line prints its text alone, without a traceback."""

    exit_code = 3  # can't run: missing weights, data or device


class UsageError(GroundcliError):
    """The command contradicts itself or asks for something that doesn't exist."""

    exit_code = 2


class BadInput(GroundcliError):
    """One image or caption that can't be used; a batch reports it and goes on."""

    exit_code = 1


class Interrupted(GroundcliError):
    """Ctrl-C or SIGTERM; what was done is kept."""

    exit_code = 130


def legible(text: str) -> str:
    """A text for the terminal: control characters, as names and captions may have, are escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def counted(count: int, noun: str) -> str:
    """1 image, 2 images."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def first_line(error: BaseException) -> str:
    """What another library's error says, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
