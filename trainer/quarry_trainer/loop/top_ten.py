"""The changes that a model makes in the top ten of the queries that are asked most."""

from collections.abc import Sequence
from dataclasses import dataclass

from quarry.feedback.reading.feedback_summary import AskedQuery
from quarry.training.loop_spec import QueryChange, RankChange
from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import types_pb2
from quarry_trainer.loop.calls import ServerCalls

DEPTH = 10
MAX_TITLE_CHARS = 120


@dataclass(frozen=True, slots=True)
class TopTen:
    """Ids of the best documents, best first, at most ten; ``titles`` by id."""

    ids: tuple[str, ...]
    titles: dict[str, str]


class TopTens:
    """Searches a collection without leaving a trace in the feedback log."""

    def __init__(self, server: ServerCalls, collection: str) -> None:
        self._server, self._collection = server, collection
        request = collections_pb.GetCollectionRequest(name=collection)
        found = server.ask(server.collections.GetCollection, request).collection
        self._fields = list_title_fields(found.schema)

    def search_all(self, asked: Sequence[AskedQuery], model: str = "") -> list[TopTen]:
        """Searches the best ten of each query. Raises QuarryError, also if an answer is not whole.

        Args:
            model: version to re-rank with; empty: what serves.
        """
        return [self._search(query.text, model) for query in asked]

    def _search(self, text: str, model: str) -> TopTen:
        request = pb.SearchRequest(
            collection=self._collection,
            query=text,
            page_size=DEPTH,
            rerank=pb.Rerank(model=model),
            require_complete=True,
            return_fields=self._fields or ["-"],
            unlogged=True,
        )
        documents = [hit.document for hit in self._server.ask(self._server.search.Search, request).hits]
        titles = {document.id: self._read_title(document) for document in documents}
        return TopTen(tuple(document.id for document in documents), titles)

    def _read_title(self, document: types_pb2.Document) -> str:
        for name in self._fields:
            text = " ".join(_read_text(document.fields[name]).split()) if name in document.fields else ""
            if text:
                return text if len(text) <= MAX_TITLE_CHARS else text[: MAX_TITLE_CHARS - 1] + "…"
        return ""


def list_title_fields(schema: collections_pb.Schema) -> list[str]:
    """Lists fields that tell people what a document is, the title first."""
    texts = [field for field in schema.fields if field.type == collections_pb.SCHEMA_FIELD_TYPE_TEXT]
    return [field.name for field in sorted(texts, key=lambda f: not (f.is_title or f.name == "title"))]


def list_rank_changes(
    asked: Sequence[AskedQuery], before: Sequence[TopTen], after: Sequence[TopTen]
) -> tuple[QueryChange, ...]:
    """Lists the queries whose top ten differs, in their order."""
    found = []
    for query, old, new in zip(asked, before, after, strict=True):
        if documents := _find_moves(old, new):
            found.append(QueryChange(query=query.text, times_asked=query.times, documents=documents))
    return tuple(found)


def _find_moves(old: TopTen, new: TopTen) -> tuple[RankChange, ...]:
    ranks_before = {id: rank for rank, id in enumerate(old.ids, 1)}
    ranks_after = {id: rank for rank, id in enumerate(new.ids, 1)}
    titles = old.titles | new.titles
    ids = [*new.ids, *(id for id in old.ids if id not in ranks_after)]
    return tuple(
        RankChange(
            document_id=id,
            title=titles[id],
            rank_before=ranks_before.get(id, 0),
            rank_after=ranks_after.get(id, 0),
        )
        for id in ids
        if ranks_before.get(id, 0) != ranks_after.get(id, 0)
    )


def _read_text(value: types_pb2.FieldValue) -> str:
    if value.WhichOneof("kind") == "list_value":
        return " ".join(_read_text(one) for one in value.list_value.values)
    return value.string_value
