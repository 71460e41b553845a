"""From documents to the vectors of their passages, encoding only what was never encoded before."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.documents.passages import Cut, PassageCutter, SourceText, build_passage_texts
from quarry.documents.vector_cache import CachedVectors, VectorCache, make_vector_key
from quarry.models.caches.state_cache import make_text_digest
from quarry.models.runtime.batcher import EncoderBatcher, Priority
from quarry.models.runtime.encoding_turns import EncodingTurns
from quarry.schema import Schema, as_list
from quarry.types import Docno, Fields
from quarry.waiting import TellProgress, tell_nobody

DEFAULT_LANGUAGE = "en"
WARM_UP, MEASURED_AT_ONCE = 4, 16
"""Passages of a sample that are encoded before the clock starts, and between two looks at it."""


@dataclass(frozen=True, slots=True)
class EncodingCost:
    """The cost of encoding some documents.

    Attributes:
        documents: how many they are.
        passages: that they are cut into.
        new_passages: those whose vectors are not in the cache.
        new_tokens: of ``new_passages``.
        encoded: passages that were encoded to measure the speed.
        encoded_tokens: of those.
        seconds: that this took, beside whatever else the server did.
    """

    documents: int
    passages: int
    new_passages: int
    new_tokens: int
    encoded: int
    encoded_tokens: int
    seconds: float


class DocumentVectors:
    """Cuts, encodes and remembers, for one collection."""

    def __init__(
        self, schema: Schema, cutter: PassageCutter, encoder: EncoderBatcher, cache: VectorCache
    ) -> None:
        self._cutter, self._encoder, self._cache = cutter, encoder, cache
        self._turns = EncodingTurns(encoder)
        self._scope = cutter.scope
        self._sources = SourceReader(schema)

    async def read_vectors(
        self, documents: Sequence[Fields], tell: TellProgress = tell_nobody
    ) -> list[NDArray[np.float32]]:
        """Reads vectors of each document, float32, shape ``(passages, dimension)``.

        Args:
            tell: is told how many of how many new passages are encoded.

        Raises:
            ModelError: the encoder gave no usable vector.
            LimitExceededError: the disk is full, or too much waits for the encoder.
        """
        sources = list(map(self._sources.read, documents))
        keys = [make_vector_key(self._scope, source) for source in sources]
        known = await asyncio.to_thread(self._cache.get_vectors, keys)
        missing = {key: source for key, source in zip(keys, sources, strict=True) if key not in known}
        if missing:
            made = await self._encode_sources(missing, tell)
            await asyncio.to_thread(self._cache.put_many, made)
            known |= {key: value.vectors for key, value in made.items()}
        return [known[key] for key in keys]

    async def note_uses(self, owner: str, documents: Mapping[Docno, Fields | None]) -> None:
        """Notes which documents the index ``owner`` holds from now on, None for those that are deleted.

        What nothing uses any more is deleted from the cache. Call it before ``read_vectors``, so that
        nothing is kept that no document is known to use. Raises LimitExceededError if the disk is full.
        """
        await asyncio.to_thread(self._note_uses, owner, documents)

    def _note_uses(self, owner: str, documents: Mapping[Docno, Fields | None]) -> None:
        keys = {
            docno: None if fields is None else make_vector_key(self._scope, self._sources.read(fields))
            for docno, fields in documents.items()
        }
        self._cache.note_uses(owner, keys)

    async def read_kept(self, documents: Sequence[Fields]) -> list[NDArray[np.float32] | None]:
        """Reads the cached vectors of each document, None where the cache holds nothing."""
        keys = self._make_keys(documents)
        known = await asyncio.to_thread(self._cache.get_vectors, keys)
        return [known.get(key) for key in keys]

    async def encode_again(self, documents: Sequence[Fields]) -> list[NDArray[np.float32]]:
        """Encodes each document's vectors now, whatever the cache holds.

        Keeps nothing. Raises as ``read_vectors``.
        """
        sources = list(map(self._sources.read, documents))
        keys = [make_vector_key(self._scope, source) for source in sources]
        made = await self._encode_sources(dict(zip(keys, sources, strict=True)))
        return [made[key].vectors for key in keys]

    async def forget(self, documents: Sequence[Fields]) -> None:
        """Takes documents out of the cache, so that they are encoded when they are wanted next."""
        await asyncio.to_thread(self._cache.delete_many, self._make_keys(documents))

    def _make_keys(self, documents: Sequence[Fields]) -> list[bytes]:
        return [make_vector_key(self._scope, self._sources.read(document)) for document in documents]

    async def measure(self, documents: Sequence[Fields], most_s: float) -> EncodingCost:
        """Cuts documents, and encodes of what is not in the cache as much as ``most_s`` allow; keeps nothing.

        Raises as ``read_vectors``.
        """
        sources = list(map(self._sources.read, documents))
        keys = [make_vector_key(self._scope, source) for source in sources]
        known = await asyncio.to_thread(self._cache.get_vectors, keys)
        missing = [source for key, source in zip(keys, sources, strict=True) if key not in known]
        texts = await asyncio.to_thread(self._cut_texts, missing)
        tokens = await asyncio.to_thread(lambda: [self._cutter.count_tokens([text]) for text in texts])
        await self._encoder.encode(texts[:WARM_UP], Priority.BULK)
        clock, done = time.perf_counter(), 0
        while done < len(texts) and time.perf_counter() - clock < most_s:
            some = texts[done : done + MEASURED_AT_ONCE]
            await self._encoder.encode(some, Priority.BULK)
            done += len(some)
        seconds = time.perf_counter() - clock
        passages = sum(map(len, known.values())) + len(texts)
        return EncodingCost(
            len(documents), passages, len(texts), sum(tokens), done, sum(tokens[:done]), seconds
        )

    def _cut_texts(self, sources: Sequence[SourceText]) -> list[str]:
        cuts = self._cutter.cut(sources)
        return [
            t for source, cut in zip(sources, cuts, strict=True) for t in build_passage_texts(source, cut)
        ]

    async def cut_passages(self, documents: Sequence[Fields]) -> list[list[str]]:
        """Cuts each document's passages, as they are or will be encoded; encodes nothing."""
        return await asyncio.to_thread(self._cut_passages, list(map(self._sources.read, documents)))

    def _cut_passages(self, sources: Sequence[SourceText]) -> list[list[str]]:
        keys = [make_vector_key(self._scope, source) for source in sources]
        known = self._cache.get_many(keys)
        return [
            build_passage_texts(source, known[key].cut if key in known else self._cutter.cut([source])[0])
            for key, source in zip(keys, sources, strict=True)
        ]

    async def _encode_sources(
        self, sources: dict[bytes, SourceText], tell: TellProgress = tell_nobody
    ) -> dict[bytes, CachedVectors]:
        cuts = await self._cut(list(sources.values()))
        texts = [build_passage_texts(source, cut) for source, cut in zip(sources.values(), cuts, strict=True)]
        vectors = await self._turns.encode([text for some in texts for text in some], tell)
        return dict(zip(sources, _split(cuts, texts, vectors), strict=True))

    async def _cut(self, sources: Sequence[SourceText]) -> list[Cut]:
        """Cuts them in a thread, which ends soon after a cancellation: a server that stops waits for it."""
        given_up = threading.Event()
        try:
            return await asyncio.to_thread(self._cutter.cut, sources, given_up.is_set)
        finally:
            given_up.set()


class SourceReader:
    """Reads of documents what the encoder reads. The schema is looked at once, not for each document."""

    def __init__(self, schema: Schema) -> None:
        title, embedded = schema.title, schema.embedded
        language = embedded[0].language if embedded else DEFAULT_LANGUAGE
        self._language = DEFAULT_LANGUAGE if language == "none" else language
        self._title = title.name if title and title.embedded else None
        self._embedded = tuple(field.name for field in embedded)

    def read(self, fields: Fields) -> SourceText:
        heading = " ".join(as_list(fields.get(self._title))) if self._title else ""
        pieces = [value for name in self._embedded for value in as_list(fields.get(name))]
        return SourceText.from_pieces(heading, pieces, self._language)


def read_source(schema: Schema, fields: Fields) -> SourceText:
    """Reads what the encoder reads of a document."""
    return SourceReader(schema).read(fields)


def _split(
    cuts: Sequence[Cut], texts: Sequence[Sequence[str]], vectors: NDArray[np.float32]
) -> list[CachedVectors]:
    ends = np.cumsum([len(cut.spans) for cut in cuts])[:-1]
    return [
        CachedVectors(cut, rows, b"".join(map(make_text_digest, some)))
        for cut, rows, some in zip(cuts, np.split(vectors, ends), texts, strict=True)
    ]
