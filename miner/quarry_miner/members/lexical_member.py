"""A lexical index of this process as a member, for benchmarks, tests, and mining without a server."""

from collections.abc import Sequence

from quarry.retrieval.base import LexicalIndex
from quarry.types import Change, Docno
from quarry_miner.corpus import Corpus
from quarry_miner.members.members import BM25, Listed


class LexicalMember:
    """Searches an index whose docnos are the corpus's numbers plus 1, as ``index_corpus`` fills it."""

    name = BM25

    def __init__(self, index: LexicalIndex) -> None:
        self._index = index

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        rows = []
        for query in queries:
            found = self._index.search(query, depth, None).candidates
            rows.append(([c.docno - 1 for c in found], [c.score for c in found]))
        return Listed.of_rows(rows, depth)


def index_corpus(index: LexicalIndex, corpus: Corpus) -> None:
    """Puts every document of the corpus into an empty index."""
    number = 0
    for batch in corpus.batches():
        index.apply([Change(Docno(number + i + 1), 1, fields) for i, fields in enumerate(batch)])
        number += len(batch)
    index.commit(1)
