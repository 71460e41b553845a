"""The methods of CollectionService that set and return the synonyms and stop words of a collection."""

from quarry.collections.collections import Collections
from quarry.documents.catalog import Collection
from quarry.errors import InvalidArgumentError, RequiredError, UnknownValueError
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import collection_service_pb2_grpc
from quarry.vocabulary import SynonymRule, Vocabulary
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
        given = _parse_vocabulary(request.vocabulary)
        parts = {path: getattr(given, path) for path in paths}
        revision = parse_etag(request.etag)
        with self._open_collections.use(request.collection) as opened:
            name = opened.row.settings.name
            try:
                row = await self._open_collections.set_vocabulary(name, revision, parts)
            except InvalidArgumentError as error:
                raise error.move_under("vocabulary") from None
            return pb.SetVocabularyResponse(
                vocabulary=to_vocabulary_message(row), etag=make_etag(row.revision)
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
