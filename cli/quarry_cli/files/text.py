"""Lines of text in the encoding of a file, and what to do about bytes that are not of it."""

import codecs
import io
from typing import BinaryIO

from quarry_cli.failures import CliError
from quarry_cli.inputs.compression import make_buffered

UTF_8 = "utf-8-sig"
"""UTF-8, with a byte order mark or without."""
MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class TextLines:
    """Iterates over the lines of a file, each with its line end.

    Args:
        name: of the file, for errors.
        content: its bytes, unpacked.
        encoding: None: UTF-8, or UTF-16 if its mark is there.
        what: the format, for errors.

    Raises:
        CliError: a byte is not of the encoding; the message names the line and both.
    """

    def __init__(self, name: str, content: BinaryIO, encoding: str | None, what: str) -> None:
        self.count = 0
        self._name, self._what = name, what
        stream = make_buffered(content)
        self.encoding = encoding or find_encoding(name, stream)
        self._text = io.TextIOWrapper(stream, encoding=self.encoding, newline="")

    def __enter__(self) -> "TextLines":
        return self

    def __exit__(self, *_: object) -> None:
        self._text.detach()  # who opened the file closes it

    def __iter__(self) -> "TextLines":
        return self

    def __next__(self) -> str:
        try:
            line = next(self._text)
        except UnicodeError as error:
            raise self._describe(error) from None
        self.count += 1
        return line

    def read(self) -> str:
        """Reads all that is left."""
        try:
            return self._text.read()
        except UnicodeError as error:
            raise self._describe(error) from None

    def _describe(self, error: UnicodeError) -> CliError:
        """Describes a byte. What could not be decoded begins in the line that would be next."""
        said = f"is not {self._what} in {name_encoding(self.encoding)}"
        if not isinstance(error, UnicodeDecodeError):  # UTF-16 or UTF-32 without its mark
            return CliError(f"{self._name}: {said}: it has no byte order mark", MARK_HINT)
        byte, line = error.object[error.start], self.count + 1 + error.object[: error.start].count(b"\n")
        return CliError(f"{self._name}:{line}: {said}: byte 0x{byte:02x}", ENCODING_HINT)


ENCODING_HINT = "--encoding names another one: cp1252 is that of Windows, of which Latin-1 is a part"

MARK_HINT = "--encoding utf-16-le or utf-16-be says the order, and UTF-8 is read without the option"


def find_encoding(name: str, stream: io.BufferedReader) -> str:
    """Finds the encoding by how a file begins. Raises CliError for one that cannot be UTF-8."""
    start = stream.peek(1_024)[:1_024]
    for mark, encoding in MARKS.items():
        if start.startswith(mark):
            return encoding
    if b"\0" in start:
        raise CliError(f"{name}: holds zero bytes, so it is no text in UTF-8", "UTF-16? --encoding utf-16-le")
    return UTF_8


def name_encoding(encoding: str) -> str:
    return "UTF-8" if encoding == UTF_8 else encoding.upper()
