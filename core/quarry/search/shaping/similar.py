"""The search for what is like a document: by its vectors, and by its key terms."""

import asyncio
from dataclasses import replace

import numpy as np

from quarry.deadline import Deadline
from quarry.errors import DocumentNotFoundError, QuarryError
from quarry.ranking.queries import Query
from quarry.retrieval.registry import ARMS
from quarry.search.first_stage import FirstStage
from quarry.search.resolving import Documents
from quarry.types import Docno, Document

KEY_TERMS = 25
"""Words of the document that BM25 looks for, as in Lucene's and Tantivy's queries of this kind."""
_NO_WORDS = " "
"""A text that matches nothing, and is not empty: that would browse."""


async def find_like_query(
    stage: FirstStage, documents: Documents, query: Query, like: str, limit: Deadline
) -> tuple[Query, FirstStage]:
    """Makes the query, and what answers it, for the documents that are like the one with the id ``like``.

    BM25 looks for its key terms. The arm that compares passages looks for the mean of its passages'
    vectors; if it has none by now, the arm does not answer.

    Raises DocumentNotFoundError if there is no such document, or as BM25 does.
    """
    found = await asyncio.to_thread(_read_document, documents, like)
    if found is None:
        raise DocumentNotFoundError(like)
    words = await asyncio.to_thread(stage.lexical.find_key_terms, found.fields, KEY_TERMS)
    if any(ARMS[plan.name].compares_passages for plan in query.arms):
        stage = stage.search_for_vector(await _compute_mean(stage, found.docno, limit))
    return replace(query, text=" ".join(words) or _NO_WORDS, rerank=None), stage


def _read_document(documents: Documents, id: str) -> Document | None:
    """Reads a document by its id; None if there is none. Blocks."""
    docnos = [docno for docno, _ in documents.find_docnos([id]).values()]
    return next(iter(documents.read(docnos).values()), None)


async def _compute_mean(
    stage: FirstStage, docno: Docno, limit: Deadline
) -> "np.ndarray[tuple[int], np.dtype[np.float32]] | None":
    """Computes the mean of a document's vectors, unit length; None if it has none, or they cannot be read."""
    try:
        passages = (await stage.read_vectors([docno], limit)).get(docno)
    except (TimeoutError, QuarryError):
        return None
    if passages is None or not len(passages):
        return None
    mean = np.asarray(passages, dtype=np.float64).mean(axis=0)
    length = float(np.linalg.norm(mean))
    return (mean / length).astype(np.float32) if length else None
