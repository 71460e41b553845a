"""A file that is open, and what is found out about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Layout:
    """The kind and the form of a file.

    Attributes:
        file: its name.
        text: format, delimiter and encoding, for people.
        unusual: whether a person should know even if nothing was asked.
        warning: what is most likely not as it was meant; mostly empty.
    """

    file: str
    text: str
    unusual: bool
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """An open file.

    Attributes:
        name: for errors and places.
        kind: its format, for people.
        content: its bytes, unpacked.
        size: bytes of the file; 0 for a pipe.
        tell: how many of them are read.
        encoding: as it was given; None: to be found.
        report: takes its layout, once it is known.
    """

    name: str
    kind: str
    content: BinaryIO
    size: int
    tell: Callable[[], int]
    encoding: str | None
    report: Callable[[Layout], None]

    def describe(self, text: str, unusual: bool = False, warning: str = "") -> None:
        self.report(Layout(self.name, f"{self.kind}, {text}", unusual, warning))
