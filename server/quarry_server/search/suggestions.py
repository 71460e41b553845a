"""Suggestions: messages to requests, and what was found to messages."""

from collections.abc import Sequence

from quarry.errors import UnknownValueError
from quarry.ranking.ranking import Degradation
from quarry.schema import Schema
from quarry.search.suggesting import DEFAULT_SUGGESTIONS, Suggestion, SuggestionKind, SuggestRequest
from quarry.v1 import search_service_pb2 as pb
from quarry_server.search.filters import parse_filter
from quarry_server.search.responses import to_degradation_message, to_total_message

_KINDS = {
    pb.SUGGESTION_KIND_TITLE: SuggestionKind.TITLE,
    pb.SUGGESTION_KIND_PHRASE: SuggestionKind.PHRASE,
}
_MESSAGES = {kind: message for message, kind in _KINDS.items()}


def parse_suggest_request(request: pb.SuggestRequest, schema: Schema) -> SuggestRequest:
    """Parses what ``request`` states. Raises InvalidArgumentError with the path of the first field that is
    wrong."""
    filter = parse_filter(request.filter, schema) if request.HasField("filter") else None
    for index, kind in enumerate(request.kinds):
        if kind not in _KINDS:
            raise UnknownValueError(f"kinds[{index}]", f"{kind} is no kind of suggestion")
    kinds = frozenset(_KINDS[kind] for kind in request.kinds) or frozenset(SuggestionKind)
    return SuggestRequest(request.text, request.limit or DEFAULT_SUGGESTIONS, filter, kinds)


def to_suggest_response(
    suggestions: Sequence[Suggestion], degraded: Sequence[Degradation]
) -> pb.SuggestResponse:
    return pb.SuggestResponse(
        suggestions=[
            pb.Suggestion(
                text=found.text,
                kind=_MESSAGES[found.kind],
                highlights=[pb.Highlight(start=start, length=end - start) for start, end in found.highlights],
                document_id=found.document_id,
                documents=to_total_message(found.documents),
            )
            for found in suggestions
        ],
        degraded=[to_degradation_message(note) for note in degraded],
    )
