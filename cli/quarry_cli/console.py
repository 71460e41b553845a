"""The output of commands: answers to stdout, everything about them to stderr."""

import json
import sys
import threading
import unicodedata
from datetime import timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
SAY_EVERY_S = 5.0
"""Between two lines on a long task, where nobody looks at a terminal."""


def replace_controls(text: str) -> str:
    """Replaces what would move the cursor, colour the terminal or break the line."""
    return "".join(" " if c in "\n\r\t" else "�" if _is_control(c) else c for c in text)


def _is_control(character: str) -> bool:
    # Cc: escape sequences; the bidirectional overrides of Cf reorder what stands beside them.
    return (
        unicodedata.category(character) == "Cc"
        or character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


def make_plain(text: str, style: str = "") -> Text:
    """Makes plain text of user text, which rich must neither parse nor colour."""
    return Text(replace_controls(text), style=style)


def count_things(count: int, one: str, many: str = "") -> str:
    """Writes ``1 document``, ``2,500 documents``, ``1 query``.

    Args:
        many: the words for other numbers than 1; as a default, ``one`` and an s.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def say(text: str, style: str = "") -> None:
    """Prints one line to stderr, never wrapped, so that scripts can match it."""
    err.print(make_plain(text, style), soft_wrap=True)


def note(text: str) -> None:
    say(text, "dim")


def warn(text: str) -> None:
    say(f"warning: {text}", "yellow")


def print_json(value: Any) -> None:
    """Prints one JSON value to stdout, without colours or wrapping."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def as_json(message: Message) -> dict[str, Any]:
    """Converts a message by protobuf's JSON mapping (int64 as strings), with the field names of the
    .proto."""
    value: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return value


def make_progress(*columns: ProgressColumn) -> Progress:
    """Makes a progress bar on stderr; where nobody looks at a terminal, plain lines every few seconds."""
    if not err.is_terminal:
        return LineProgress()
    middle = columns or (TextColumn("{task.completed:.0f}/{task.total:.0f}"),)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        *middle,
        TimeElapsedColumn(),
        console=err,
        transient=True,
    )


class LineProgress(Progress):
    """Says how far its tasks are, in one line each, as long as they last."""

    def __init__(self) -> None:
        super().__init__(console=err, disable=True)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._say_again, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _say_again(self) -> None:
        while not self._ended.wait(SAY_EVERY_S):
            for task in self.tasks:
                if task.total is None or task.completed < task.total:
                    note(describe_task(task))


def describe_task(task: Task) -> str:
    """Describes how far a task is: ``mining: 45 %, reading, 0:02:05``."""
    parts = [str(task.fields.get("said") or ""), str(timedelta(seconds=int(task.elapsed or 0)))]
    if task.total == 1:
        parts.insert(0, f"{task.percentage:.0f} %")
    elif task.total:
        parts.insert(0, f"{task.completed:,.0f} of {task.total:,.0f}")
    return f"{task.description}: {', '.join(filter(None, parts))}"
