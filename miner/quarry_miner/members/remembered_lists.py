"""Members that remember what they listed, so that lists can be compared before anything is made of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from quarry_miner.examples import Float32, Int32
from quarry_miner.members.members import NO_DOCUMENT, Listed, Member
from quarry_miner.members.spaces import VectorSpace


class RememberingMember:
    """Another member, whose lists for one block of queries are asked for at once and kept.

    What it remembers is always ``depth`` deep, whatever is asked first: an approximate index may list other
    documents at another depth, and no result may depend on which queries share a block.
    """

    def __init__(self, member: Member, depth: int) -> None:
        self._member, self._depth = member, depth
        self._lists: dict[str, tuple[Int32, Float32]] = {}
        self._relevance: dict[str, Float32] | None = None
        self._space: VectorSpace | None = None

    @property
    def name(self) -> str:
        return self._member.name

    def remember(self, queries: Sequence[str]) -> None:
        """Asks for these, and forgets all others."""
        distinct = list(dict.fromkeys(queries))
        listed = self._member.search(distinct, self._depth)
        rows = zip(distinct, listed.documents, listed.scores, strict=True)
        self._lists = {text: (documents, scores) for text, documents, scores in rows}
        self._space = listed.space
        if listed.relevance is not None:
            self._relevance = dict(zip(distinct, listed.relevance, strict=True))

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        """Finds at most what is remembered; queries that are not, are asked for."""
        if missing := [text for text in queries if text not in self._lists]:
            self.remember([*self._lists, *missing])
        rows = [self._lists[text] for text in queries]
        relevance = None
        if self._relevance is not None:
            relevance = [self._relevance[text].tolist() for text in queries]
        return Listed.from_rows([_cut_at_end(*row) for row in rows], depth, self._space, relevance)

    def list_remembered(self, query: str, depth: int | None = None) -> Int32:
        """Lists documents, best first."""
        documents = self._lists[query][0][:depth]
        found: Int32 = documents[documents != NO_DOCUMENT]
        return found

    def read_relevance(self, query: str) -> Float32 | None:
        """Reads probabilities in the order of ``list_remembered``; None if the member knows none."""
        return None if self._relevance is None else self._relevance[query]

    def read_scores(self, query: str) -> Mapping[int, float]:
        """Reads raw scores by document."""
        documents, scores = _cut_at_end(*self._lists[query])
        return dict(zip(documents, scores, strict=True))


def _cut_at_end(documents: Int32, scores: Float32) -> tuple[list[int], list[float]]:
    size = int(np.count_nonzero(documents != NO_DOCUMENT))
    return documents[:size].tolist(), scores[:size].tolist()
