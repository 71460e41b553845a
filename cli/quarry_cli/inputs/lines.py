"""Lines of text files that may be packed, with their numbers."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from quarry_cli.failures import CliError
from quarry_cli.inputs.compression import open_unpacked

SHOWN = 5


def read_all_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields lines without their ends, numbered from 1. Raises CliError for what is no file of UTF-8."""
    try:
        with path.open("rb") as raw:
            for number, line in enumerate(open_unpacked(raw), 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
    except UnicodeDecodeError as error:
        raise CliError(f"{path}: is not UTF-8: {error}") from None
    except (OSError, EOFError) as error:
        raise CliError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not blank, as ``read_all_lines``."""
    return ((number, line) for number, line in read_all_lines(path) if line.strip())


def list_names(names: Iterable[str]) -> str:
    """Writes the first names, and dots if there are more."""
    found = list(names)
    return ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
