"""Blocks of long texts, each of which is analysed by itself."""

from collections.abc import Iterator
from typing import NamedTuple

import regex

from quarry.retrieval.lexical.cutting import UNSPACED

BLOCK_CHARACTERS = 20_000
"""A text is analysed in blocks of about this size, so that its reader can stop early."""
OVERLAP = 1_000
"""Characters behind a block that are read with it, about: what begins in a block may end in the next one."""

_BORDERS = (
    regex.compile(r"\s"),
    regex.compile(r"\p{P}"),
    regex.compile(rf"(?=[{UNSPACED}--\p{{M}}])(?<![\u17d2\u1039])", regex.V1),
)
"""Where no word is cut: white space, else a sign between words, else before a character of a script without
spaces."""


class Block(NamedTuple):
    """A part of a text, from ``start`` to ``end``, which is to be read up to ``read_to``."""

    start: int
    end: int
    read_to: int


def list_blocks(text: str) -> Iterator[Block]:
    """Lists the blocks of ``text``, in order."""
    start = 0
    while start < len(text):
        end = _find_border(text, start + BLOCK_CHARACTERS)
        yield Block(start, end, _find_border(text, end + OVERLAP))
        start = end


def _find_border(text: str, place: int) -> int:
    """Finds where ``text`` can be cut, at ``place`` or behind it."""
    for border in _BORDERS if place < len(text) else ():
        found = border.search(text, place, place + BLOCK_CHARACTERS)
        if found is not None:
            return found.end()
    return min(len(text), place + BLOCK_CHARACTERS)
