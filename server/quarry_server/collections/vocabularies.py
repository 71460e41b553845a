"""The methods of CollectionService that set and return the synonyms and stop words of a collection."""

import asyncio
from dataclasses import replace

from quarry.collections.collections import Collections
from quarry.documents.catalog import Collection
from quarry.errors import InvalidArgumentError, RequiredError, UnknownValueError
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import collection_service_pb2_grpc
from quarry.vocabulary import SynonymRule, Vocabulary, check_vocabulary
from quarry_server.common.context import Context
from quarry_server.common.values import make_etag, parse_etag

PARTS = ("synonyms", "stop_words")


class VocabularyServicer(collection_service_pb2_grpc.CollectionServiceServicer):
    """Vocabularies; the rest of the service is ``CollectionServicer``'s."""

    _open_collections: Collections

    async def SetVocabulary(
        self, request: pb.SetVocabularyRequest, context: Context
    ) -> pb.SetVocabularyResponse:
        paths = list(request.update_mask.paths)
        for path in paths or [""]:
            if path not in PARTS:
                kind = UnknownValueError if path else RequiredError
                raise kind("update_mask", f"{path[:80]!r} is not one of {', '.join(PARTS)}")
        with self._open_collections.use(request.collection) as opened:
            current = await self._open_collections.read_current(opened.row.settings.name)
            given = _parse_vocabulary(request.vocabulary)
            before = current.settings.vocabulary or Vocabulary()
            vocabulary = replace(before, **{path: getattr(given, path) for path in paths})
            try:
                await asyncio.to_thread(check_vocabulary, vocabulary)  # a large one takes a tenth of a second
            except InvalidArgumentError as error:
                raise error.move_under("vocabulary") from None
            # A part that stays is as it was read here: a change that comes between would be undone.
            revision = parse_etag(request.etag) if {*paths} == {*PARTS} or request.etag else current.revision
            values = {"vocabulary": vocabulary if any(getattr(vocabulary, part) for part in PARTS) else None}
            updated = await self._open_collections.update(current.settings.name, revision, values)
            return pb.SetVocabularyResponse(
                vocabulary=to_vocabulary_message(updated.row), etag=make_etag(updated.row.revision)
            )

    async def GetVocabulary(
        self, request: pb.GetVocabularyRequest, context: Context
    ) -> pb.GetVocabularyResponse:
        with self._open_collections.use(request.collection) as opened:
            row = await self._open_collections.read_current(opened.row.settings.name)
            return pb.GetVocabularyResponse(
                vocabulary=to_vocabulary_message(row), etag=make_etag(row.revision)
            )


def _parse_vocabulary(message: pb.Vocabulary) -> Vocabulary:
    rules = (SynonymRule(tuple(rule.phrases), tuple(rule.finds)) for rule in message.synonyms)
    return Vocabulary(tuple(rules), tuple(message.stop_words))


def to_vocabulary_message(collection: Collection) -> pb.Vocabulary:
    vocabulary = collection.settings.vocabulary or Vocabulary()
    rules = [pb.SynonymRule(phrases=rule.phrases, finds=rule.finds) for rule in vocabulary.synonyms]
    return pb.Vocabulary(synonyms=rules, stop_words=vocabulary.stop_words)
