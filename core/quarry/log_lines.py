"""The form of the server's log: only the server and its store processes can begin a line of it."""

import logging
import re

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves a cursor, ends a line for some readers, or turns the direction of the text."""


class LineFormatter(logging.Formatter):
    """Indents what follows a record's first line, and escapes control characters.

    A message may quote what a client has sent. Without this, a line break in it would begin a line that looks
    like the server's own.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = CONTROL.sub(lambda found: ascii(found.group())[1:-1], super().format(record))
        return text.replace("\n", "\n    ")


def log_to_stderr(level: int | str = logging.INFO) -> None:
    """Writes records of ``level`` and above to stderr, but alembic's only from WARNING on."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level, handlers=[handler])
