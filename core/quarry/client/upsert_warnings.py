"""Warnings about streamed documents, counted over batches."""

from collections.abc import Iterable

from quarry.upsert_warnings import UpsertWarning, WarningKind
from quarry.v1 import document_service_pb2 as pb

_KINDS = {
    pb.UPSERT_WARNING_KIND_NO_SEARCHED_TEXT: WarningKind.NO_SEARCHED_TEXT,
    pb.UPSERT_WARNING_KIND_UNKNOWN_FIELDS: WarningKind.UNKNOWN_FIELDS,
}


class WarningCounts:
    """The warnings of all batches so far, one a kind; of a kind that this client does not know, the last."""

    def __init__(self) -> None:
        self._found: dict[int, pb.UpsertWarning] = {}

    def add(self, warnings: Iterable[pb.UpsertWarning]) -> None:
        for warning in warnings:
            known = self._found.get(warning.kind)
            joined = warning if known is None or warning.kind not in _KINDS else _join(known, warning)
            self._found[warning.kind] = joined

    def list(self) -> list[pb.UpsertWarning]:
        return [self._found[kind] for kind in sorted(self._found)]


def _join(one: pb.UpsertWarning, other: pb.UpsertWarning) -> pb.UpsertWarning:
    joined = _read(one).join(_read(other))
    return pb.UpsertWarning(
        kind=one.kind,
        document_count=joined.documents,
        fields=joined.fields,
        field_count=joined.field_count,
        sample_ids=joined.sample_ids,
        message=str(joined),
    )


def _read(message: pb.UpsertWarning) -> UpsertWarning:
    return UpsertWarning(
        _KINDS[message.kind],
        message.document_count,
        tuple(message.fields),
        message.field_count,
        tuple(message.sample_ids),
    )
