"""Lines of text files that may be packed, with their numbers."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from quarry_cli.failures import CliError
from quarry_cli.inputs.compression import open_unpacked

SHOWN = 5
UTF_8_HINT = "save it as UTF-8; `iconv -f cp1252 -t utf-8 FILE` converts a file of Windows"


def read_all_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields lines without their ends, numbered from 1. Raises CliError for what is no file of UTF-8."""
    number = 0
    try:
        with path.open("rb") as raw:
            for number, line in enumerate(open_unpacked(raw), 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise CliError(f"{path}:{number}: is not UTF-8: byte 0x{byte:02x}", UTF_8_HINT) from None
    except (OSError, EOFError) as error:
        raise CliError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_plain_text(path: Path) -> str:
    """Reads all lines as one text. Raises CliError as ``read_all_lines``."""
    return "\n".join(line for _, line in read_all_lines(path))


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not blank, as ``read_all_lines``."""
    return ((number, line) for number, line in read_all_lines(path) if line.strip())


def list_names(names: Iterable[str]) -> str:
    """Writes the first names, and dots if there are more."""
    found = list(names)
    return ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
