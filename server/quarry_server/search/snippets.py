"""Snippets from and to messages."""

from collections.abc import Iterable, Iterator, Mapping

from quarry.errors import InvalidArgumentError, UnknownValueError
from quarry.schema import Schema
from quarry.search.results.snippets import (
    DEFAULT_FRAGMENTS,
    DEFAULT_LENGTH,
    HighlightTag,
    Snippet,
    SnippetBasis,
    SnippetField,
    SnippetPlan,
    check_snippet_fields,
    choose_all_texts,
)
from quarry.v1 import search_service_pb2 as pb

_TAGS: Mapping[int, HighlightTag] = {
    pb.HIGHLIGHT_TAG_UNSPECIFIED: HighlightTag.EM,
    pb.HIGHLIGHT_TAG_EM: HighlightTag.EM,
    pb.HIGHLIGHT_TAG_MARK: HighlightTag.MARK,
    pb.HIGHLIGHT_TAG_STRONG: HighlightTag.STRONG,
    pb.HIGHLIGHT_TAG_B: HighlightTag.B,
}
_BASES = {
    SnippetBasis.WORDS: pb.SNIPPET_BASIS_WORDS,
    SnippetBasis.PASSAGE: pb.SNIPPET_BASIS_PASSAGE,
    SnippetBasis.BEGINNING: pb.SNIPPET_BASIS_BEGINNING,
}


def parse_snippets(request: pb.SearchRequest, schema: Schema) -> SnippetPlan | None:
    """Parses which snippets ``request`` asks for; None for none.

    Raises InvalidArgumentError with a path below ``snippets``.
    """
    if not request.HasField("snippets"):
        return None
    try:
        return _parse(request.snippets, schema)
    except InvalidArgumentError as error:
        raise error.move_under("snippets") from None


def _parse(message: pb.Snippets, schema: Schema) -> SnippetPlan:
    if message.tag not in _TAGS:
        raise UnknownValueError("tag", f"{message.tag} is no tag")
    usual = SnippetField("", message.length or DEFAULT_LENGTH, message.fragments or DEFAULT_FRAGMENTS)
    check_snippet_fields([field.name for field in message.fields], schema)
    fields = tuple(_parse_fields(message.fields, usual))
    fields = fields or choose_all_texts(schema, usual.length, usual.fragments)
    return SnippetPlan(fields, _TAGS[message.tag])


def _parse_fields(messages: Iterable[pb.SnippetField], usual: SnippetField) -> Iterator[SnippetField]:
    for index, message in enumerate(messages):
        try:
            yield SnippetField(
                message.name, message.length or usual.length, message.fragments or usual.fragments
            )
        except InvalidArgumentError as error:
            raise error.move_under(f"fields[{index}]") from None


def to_snippet_message(snippet: Snippet) -> pb.Snippet:
    """Writes one snippet."""
    message = pb.Snippet(field=snippet.field, basis=_BASES[snippet.basis])
    for fragment in snippet.fragments:
        message.fragments.add(
            text=fragment.text,
            html=fragment.html,
            start=fragment.start,
            goes_on=fragment.goes_on,
            value=fragment.value,
            highlights=[pb.Highlight(start=start, length=end - start) for start, end in fragment.highlights],
        )
    return message
