"""Parts of texts: where they lie in another form of the text, and which of them are one."""

from collections.abc import Callable, Iterable

import regex

_CLUSTER = regex.compile(r"\X", regex.DOTALL)
"""A character with all marks that belong to it; Unicode's forms change nothing beyond one."""
_NOT_ASCII = regex.compile(r".?[^\x00-\x7f]+", regex.DOTALL)
"""With the character before, which a mark may belong to."""

Span = tuple[int, int]
"""Where something begins and ends in a text, in characters."""


def align_text(text: str, change_form: Callable[[str], str]) -> tuple[str, list[Span]]:
    """Changes the form of ``text``, such as its spelling, character by character.

    Args:
        change_form: changes the form of a part; that of ASCII keeps its length.

    Returns:
        The changed text, and for each of its characters the part of ``text`` that it comes from.
    """
    pieces: list[str] = []
    places: list[Span] = []
    known: dict[str, str] = {}

    def add_ascii(start: int, end: int) -> None:
        pieces.append(change_form(text[start:end]))
        places.extend((place, place + 1) for place in range(start, end))

    ended = 0
    for run in _NOT_ASCII.finditer(text):
        add_ascii(ended, run.start())
        for cluster in _CLUSTER.finditer(text, *run.span()):
            if (changed := known.get(cluster[0])) is None:
                changed = known[cluster[0]] = change_form(cluster[0])
            pieces.append(changed)
            places += [cluster.span()] * len(changed)
        ended = run.end()
    add_ascii(ended, len(text))
    return "".join(pieces), places


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """Joins spans that overlap or meet, and puts them in order."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
