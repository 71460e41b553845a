"""JSON: one object a line, an array of objects, or one object that holds such an array."""

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, BinaryIO

import orjson

from quarry_cli.failures import CliError
from quarry_cli.files.records import BadRecord, Row
from quarry_cli.files.source import Source
from quarry_cli.files.text import ENCODING_HINT, UTF_8, TextLines, find_encoding, name_encoding, read_line
from quarry_cli.inputs.compression import make_buffered

BLANK = re.compile(r"[\s]*")
ROUNDED = 2.0**63
"""From here on orjson makes floats of integers, without a word."""
NO_NUMBERS = (b"NaN", b"Infinity")
"""What Python writes into JSON, and orjson does not know."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DECODER = json.JSONDecoder()
LINES_HINT = "--format jsonl reads one object a line"


def read_json_lines(source: Source) -> Iterator[Row | BadRecord]:
    """Yields one record a line. Raises CliError if the file is no text of its encoding."""
    content = make_buffered(source.content)
    encoding = source.encoding or find_encoding(source.name, content)
    source.describe(name_encoding(encoding), unusual=encoding != UTF_8)
    if encoding == UTF_8:
        yield from _read_lines(source, _split_lines(source.name, content))
        return
    with TextLines(source.name, content, encoding, "JSON") as text:
        yield from _read_lines(source, (line.encode("utf-8", "surrogatepass") for line in text))


def _split_lines(name: str, content: BinaryIO) -> Iterator[bytes]:
    for number in count(1):
        if not (line := read_line(name, number, content)):
            return
        yield line


def _read_lines(source: Source, lines: Iterable[bytes]) -> Iterator[Row | BadRecord]:
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if line.strip():
            yield _read_line(f"{source.name}:{number}", line, source.tell())


def _read_line(where: str, line: bytes, position: int) -> Row | BadRecord:
    try:
        content = parse_json(line)
    except UnicodeDecodeError as error:
        return BadRecord(where, f"is not JSON in UTF-8: byte 0x{line[error.start]:02x} ({ENCODING_HINT})")
    except RecursionError:
        return BadRecord(where, "is not JSON that can be read: it is nested too deeply")
    except ValueError as error:  # both parsers raise it
        hint = f" ({ENCODING_HINT})" if "UTF-8" in str(error) else ""
        return BadRecord(where, f"is not JSON: {error}{hint}")
    return make_row(where, content, position)


def parse_json(line: bytes) -> Any:
    """Parses one value, its integers exact, whatever their size. Raises ValueError or RecursionError."""
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError:
        if any(word in line for word in NO_NUMBERS):
            return json.loads(line)
        raise
    return json.loads(line) if _has_rounded(content) else content


def _has_rounded(content: Any) -> bool:
    if isinstance(content, float):
        return abs(content) >= ROUNDED
    if isinstance(content, dict):
        return any(_has_rounded(value) for value in content.values() if not isinstance(value, str))
    return isinstance(content, list) and any(map(_has_rounded, content))


def make_row(where: str, content: Any, position: int) -> Row | BadRecord:
    """Makes a row of an object. BEIR's ``metadata`` is read as if its keys stood beside the others."""
    if not isinstance(content, dict):
        return BadRecord(where, "is not a JSON object")
    metadata = content.get("metadata")
    if isinstance(metadata, dict):  # BEIR puts further fields there, or leaves it empty
        content = {**metadata, **{key: value for key, value in content.items() if key != "metadata"}}
    return Row(where, content, position)


def read_json(source: Source) -> Iterator[Row | BadRecord]:
    """Yields the objects of an array, of one object's only array, or of objects one after another.

    The text is read as a whole, its objects one by one.

    Raises:
        CliError: it is not JSON, or no text of its encoding.
    """
    with TextLines(source.name, source.content, source.encoding, "JSON") as lines:
        text = lines.read_all().removeprefix("\ufeff")
    end, unusual = source.tell(), lines.encoding != UTF_8
    place = _skip_blank(text, 0)
    if not text.startswith("{", place):
        source.describe(f"an array, {name_encoding(lines.encoding)}", unusual)
        yield from _read_values(source, text, place, end)
        return
    first, after = _decode(source, text, place)
    after = _skip_blank(text, after)
    if after < len(text):
        source.describe(f"objects one after another, {name_encoding(lines.encoding)}", unusual)
        yield from _read_values(source, text, place, end)
    elif key := find_only_array(first):
        source.describe(f"the array {key}, {name_encoding(lines.encoding)}", unusual=True)
        for number, content in enumerate(first[key]):
            yield make_row(f"{source.name}: {key}[{number}]", content, end * number // len(first[key]))
    else:
        source.describe(f"one object, {name_encoding(lines.encoding)}", unusual, find_list_of_records(first))
        yield make_row(f"{source.name}:1", first, end)


def find_only_array(content: dict[str, Any]) -> str:
    """Finds the only key with an array of objects, as in ``{"total": 2, "products": [...]}``; or none.

    Objects and empty arrays may stand beside it. An id, or an array of other values, says that the object is
    a document.
    """
    arrays = [key for key, value in content.items() if isinstance(value, list) and value]
    alone = len(arrays) == 1 and _holds_objects(content[arrays[0]])
    return arrays[0] if alone and not {"id", "_id"} & content.keys() else ""


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def find_list_of_records(content: dict[str, Any]) -> str:
    """Finds a list of two or more objects in an object that is read as one document.

    Returns a warning that names the first such list; empty if there is none.
    """
    waiting = deque((_quote_key(key), value) for key, value in content.items())
    while waiting:
        path, value = waiting.popleft()
        if isinstance(value, dict):
            waiting.extend((f"{path}.{_quote_key(key)}", inner) for key, inner in value.items())
        elif _holds_objects(value) and len(value) > 1:
            hint = f"`jq -c '.{path}[]' FILE` makes a line of each"
            return f"is read as one document, though its {path} are {len(value):,} objects; {hint}"
    return ""


def _quote_key(key: str) -> str:
    """Quotes a key as jq wants it."""
    return key if key.isidentifier() and key.isascii() else json.dumps(key)


def _read_values(source: Source, text: str, place: int, end: int) -> Iterator[Row | BadRecord]:
    """Yields values between commas or white space, the brackets around them left out."""
    listed = text.startswith("[", place)
    place = _skip_blank(text, place + listed)
    line, counted = 1, 0
    while place < len(text) and not (listed and text[place] == "]"):
        line, counted = line + text.count("\n", counted, place), place
        content, place = _decode(source, text, place)
        yield make_row(f"{source.name}:{line}", content, end * place // len(text))
        place = _skip_blank(text, place)
        if listed and text.startswith(",", place):
            place = _skip_blank(text, place + 1)
        elif listed and not text.startswith("]", place):
            raise _describe(source, text, place, "an array goes on with , or ends with ]")
    if listed and place >= len(text):
        raise _describe(source, text, place, "the array is not closed")
    if listed and (rest := _skip_blank(text, place + 1)) < len(text):
        raise _describe(source, text, rest, "something follows the array")


def _skip_blank(text: str, place: int) -> int:
    found = BLANK.match(text, place)
    return found.end() if found else place


def _decode(source: Source, text: str, place: int) -> tuple[Any, int]:
    try:
        return DECODER.raw_decode(text, place)
    except json.JSONDecodeError as error:
        raise _describe(source, text, error.pos, error.msg) from None
    except RecursionError:
        raise _describe(source, text, place, "it is nested too deeply", hint="") from None
    except ValueError:  # Python converts no more than 4,300 digits
        raise _describe(source, text, place, "a number has too many digits", hint="") from None


def _describe(source: Source, text: str, place: int, problem: str, hint: str = LINES_HINT) -> CliError:
    line = 1 + text.count("\n", 0, place)
    return CliError(f"{source.name}:{line}: is not JSON: {problem}", hint)
