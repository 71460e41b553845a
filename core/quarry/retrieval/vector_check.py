"""The check that stored vectors are those of the documents.

Three looks, from cheap to dear. Each stored vector must have unit length. It must equal the one in the
vector cache, which has a checksum. And of a few documents it must equal what the encoder makes of them now,
which also finds what a damaged model made. Documents are drawn by a seed, so that a check can be repeated.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from quarry.retrieval.base import MAX_PASSAGES, DenseStore
from quarry.retrieval.definition import PassageVectors
from quarry.retrieval.inspection import Findings, Inspection
from quarry.types import Docno, Fields

LEAST_COSINE = 0.999
"""Between two vectors of one passage. Two machines differ by some 1e-6, float32 and bfloat16 by some 1e-4."""
LENGTH_TOLERANCE = 1e-2
AT_ONCE = 32
ENCODED_PASSAGES = 64
"""A longer document is not among those that are encoded: it would take seconds."""


class VectorCheck:
    """Checks the dense arm of a generation while it is followed; each step holds it still for some 10 ms."""

    def __init__(self, store: DenseStore, vectors: PassageVectors, inspection: Inspection) -> None:
        self._store, self._vectors, self._asked = store, vectors, inspection

    async def run(self) -> Findings:
        """Looks at documents until the sample is reached or the time is up.

        Raises ModelError if the encoder fails, or UnavailableError if the store does.
        """
        docnos, sample = self._asked.docnos, self._asked.sample
        count = len(docnos) if sample.documents is None else min(sample.documents, len(docnos))
        drawn = Random(sample.seed).sample(list(docnos), count)  # a sample, not a secret
        found = Findings()
        for batch in _split_batches(drawn):
            if not self._asked.deadline.remaining_s:
                break
            if sample.encoded is None:
                await self._look(batch, AT_ONCE, MAX_PASSAGES, found)
            else:
                await self._look(batch, sample.encoded - found.encoded, ENCODED_PASSAGES, found)
        return found

    async def _look(self, batch: Sequence[Docno], wanted: int, most_passages: int, found: Findings) -> None:
        """Adds to ``found``; ``wanted`` documents of at most so many passages are encoded."""
        async with self._asked.follower.pause():
            documents = await self._read_documents(batch)
            stored = await self._store.read_vectors(list(documents))
        kept = dict(zip(documents, await self._vectors.read_kept(list(documents.values())), strict=True))
        fitting = [d for d in documents if len(stored.get(d, ())) <= most_passages][: max(0, wanted)]
        again = await self._vectors.encode_again([documents[docno] for docno in fitting]) if fitting else []
        made = dict(zip(fitting, again, strict=True))
        found.encoded += len(made)
        for docno in documents:
            if docno not in stored:  # missing: the comparison of versions has named it
                continue
            found.vectors += len(stored[docno])
            right = made.get(docno, kept[docno])
            sound = _check_unit_length(stored[docno]) and (right is None or _agree(stored[docno], right))
            if not sound:
                found.damaged.append(docno)
            cached = kept[docno]
            if cached is not None and docno in made and not _agree(cached, made[docno]):
                found.wrongly_encoded = True

    async def _read_documents(self, batch: Sequence[Docno]) -> Mapping[Docno, Fields]:
        """Reads documents that the arm has in the log's version; called while it stands still."""
        read = await asyncio.to_thread(self._asked.documents.read, batch)
        at = self._asked.follower.visible
        return {docno: read[docno].fields for docno in batch if docno in read and read[docno].version <= at}


def _split_batches(docnos: Sequence[Docno]) -> Iterator[Sequence[Docno]]:
    return (docnos[start : start + AT_ONCE] for start in range(0, len(docnos), AT_ONCE))


def _check_unit_length(rows: NDArray[np.float32]) -> bool:
    lengths = np.linalg.norm(rows, axis=1)
    return bool((np.abs(lengths - 1) <= LENGTH_TOLERANCE).all())  # not a number is no length


def _agree(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Tells whether each pair of rows, all of about unit length, points the same way."""
    if one.shape != other.shape:
        return False
    return bool((np.einsum("ij,ij->i", one, other) >= LEAST_COSINE).all())
