"""Orders by fields from messages."""

from collections.abc import Iterator

from quarry.errors import ConflictingFieldsError
from quarry.retrieval.ordering import OrderBy, check_order
from quarry.schema import Schema
from quarry.v1 import search_service_pb2 as pb


def parse_order(request: pb.SearchRequest, schema: Schema) -> tuple[OrderBy, ...]:
    """Parses the fields that ``request`` orders by; none for the order by relevance.

    Raises InvalidArgumentError with the path of what is wrong.
    """
    order = tuple(OrderBy(message.field, message.descending) for message in request.order_by)
    if not order:
        return order
    check_order(order, schema)
    for name in _list_conflicts(request):
        raise ConflictingFieldsError(name, "is there beside order_by, which is no order by relevance")
    return order


def _list_conflicts(request: pb.SearchRequest) -> Iterator[str]:
    """Lists the fields of ``request`` that say something of an order by relevance."""
    if request.arms:
        yield "arms"
    if request.HasField("fusion"):
        yield "fusion"
    if request.HasField("min_relevance"):
        yield "min_relevance"
    if request.exploration.swap_probability:
        yield "exploration"
    if request.rerank.ByteSize() and not request.rerank.disabled:
        yield "rerank"
    yield from (name for name in ("collapse", "diversity") if request.HasField(name))
    yield from (name for name in ("pinned_ids", "boosts", "more_like") if getattr(request, name))
