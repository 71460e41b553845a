"""The snippet of a hit that a person sees."""

import re
from collections.abc import Sequence

from rich.text import Text

from quarry.v1 import search_service_pb2 as pb
from quarry_cli.console import make_plain

LENGTH = 300
"""Characters, three lines or so, whatever the terminal is: all pages of a search ask for the same."""
SHOWN = pb.Snippets(length=LENGTH)
_SPACE = re.compile(r"\s+")


def write_best(snippets: Sequence[pb.Snippet], title: str) -> Text:
    """Writes the snippet that has most different words of the query, or else the one that is nearest by
    meaning, or else the longest; not that of the field ``title``, which is shown as a whole."""

    def make_key(snippet: pb.Snippet) -> tuple[bool, int, bool, int]:
        fragment = snippet.fragments[0]
        marked = {fragment.text[h.start :][: h.length].casefold() for h in fragment.highlights}
        by_meaning = snippet.basis == pb.SNIPPET_BASIS_PASSAGE
        return bool(marked), len(marked), by_meaning, len(fragment.text)

    best = max((s for s in snippets if s.field != title), key=make_key, default=None)
    return Text() if best is None else _write_fragment(best.fragments[0])


def _write_fragment(fragment: pb.SnippetFragment) -> Text:
    written, place = Text("… " if fragment.start else ""), 0
    for highlight in fragment.highlights:
        written.append(_write_piece(fragment.text[place : highlight.start]))
        written.append(_write_piece(fragment.text[highlight.start :][: highlight.length], "yellow"))
        place = highlight.start + highlight.length
    written.append(_write_piece(fragment.text[place:]))
    return written.append(" …" if fragment.goes_on else "")


def _write_piece(text: str, style: str = "") -> Text:
    return make_plain(_SPACE.sub(" ", text), style)
