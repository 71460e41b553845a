"""Lines of text in the encoding of a file, and what to do about bytes that are not of it."""

import codecs
import io
from typing import IO, AnyStr, BinaryIO

from quarry_cli.failures import CliError
from quarry_cli.inputs.compression import make_buffered

UTF_8 = "utf-8-sig"
"""UTF-8, with a byte order mark or without."""
MAX_LINE = 2**25
"""Longest line, in characters, or in bytes where lines are read as such. No document is so large, and a small
packed file may hold a line that no memory takes."""
MAX_WHOLE_BYTES = 2**30
"""Largest text that is read as a whole."""
MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class TextLines:
    """Iterates over the lines of a file, each with its line end.

    Args:
        name: of the file, for errors.
        content: its bytes, unpacked.
        encoding: None: UTF-8, or UTF-16 if its mark is there.
        what: the format, for errors.

    Raises:
        CliError: a byte is not of the encoding, the message names the line and both; or a line is too long.
    """

    def __init__(self, name: str, content: BinaryIO, encoding: str | None, what: str) -> None:
        self.count = 0
        self._name, self._what = name, what
        self._stream = make_buffered(content)
        self.encoding = encoding or find_encoding(name, self._stream)
        self._text = io.TextIOWrapper(self._stream, encoding=self.encoding, newline="")

    def __enter__(self) -> "TextLines":
        return self

    def __exit__(self, *_: object) -> None:
        self._text.detach()  # who opened the file closes it

    def __iter__(self) -> "TextLines":
        return self

    def __next__(self) -> str:
        try:
            line = read_line(self._name, self.count + 1, self._text)
        except UnicodeError as error:
            raise self._describe(error) from None
        if not line:
            raise StopIteration
        self.count += 1
        return line

    def read_all(self) -> str:
        """Reads the whole file, instead of its lines. Raises CliError also for one that is too large."""
        content = self._stream.read(MAX_WHOLE_BYTES + 1)
        if len(content) > MAX_WHOLE_BYTES:
            raise CliError(f"{self._name}: has over {MAX_WHOLE_BYTES:,} bytes in one text", WHOLE_HINT)
        try:
            return codecs.getincrementaldecoder(self.encoding)().decode(content, final=True)
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
WHOLE_HINT = "JSON lines, one object a line, may have any size: jq -c '.[]' FILE makes them of an array"
LINE_HINT = "is this its format? --format json reads a file that is one JSON value"


def read_line(name: str, number: int, stream: IO[AnyStr]) -> AnyStr:
    """Reads the next line with its end; empty at the end of the file. Raises CliError if it is too long."""
    line = stream.readline(MAX_LINE)
    if len(line) == MAX_LINE:
        raise CliError(f"{name}:{number}: is a line of {MAX_LINE:,} characters or more", LINE_HINT)
    return line


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
