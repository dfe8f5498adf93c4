"""Files of published data sets: which are missing, and reading what is there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from groundcli.errors import GroundcliError, first_line


def find(root: Path, wanted: Sequence[Sequence[str]], source: str) -> list[Path]:
    """Where the files and folders of a data set lie, in order.

    Args:
        root: the data set's folder.
        wanted: each a list of places where it may lie below the root; a folder's ends with "/".
        source: where the data set is published.

    Raises:
        GroundcliError: some are missing; all of them are named, each by the first of its places.
    """
    places = [next((p for p in map(root.joinpath, names) if p.exists()), None) for names in wanted]
    missing = [names[0] for names, place in zip(wanted, places, strict=True) if place is None]
    if missing:
        raise GroundcliError(f"{root}: lacks {', '.join(missing)} (published at {source})")
    return [place for place in places if place is not None]


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turns whatever goes wrong in reading a file into one line that says what the file should be.

    Raises:
        GroundcliError: the file can't be read, is cut short, or isn't of the form that was expected.
    """
    try:
        yield
    except GroundcliError:
        raise
    except OSError as error:
        raise GroundcliError(f"{path}: can't be read ({error.strerror}); check its permissions") from None
    except KeyError as error:
        raise GroundcliError(f"{path}: not {what} (no {error} where one is expected); fetch it again") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise GroundcliError(f"{path}: not {what} ({first_line(error)}); fetch it again") from None
