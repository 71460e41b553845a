"""The fingerprint of a query, in 16 bytes: the same fingerprint, the same rows.

It covers what is asked, the query and its positives, what each member lists for it, the versions and vectors
of those documents, and what feedback knows of them. Raw scores are left out unless a rule reads them: BM25's
change a little with every document. Re-used rows get the new ones.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from quarry_miner.examples import Int32, MiningQuery
from quarry_miner.members.members import NO_DOCUMENT
from quarry_miner.members.remembered_lists import RememberingMember
from quarry_miner.mining.task import MiningTask

BYTES = 16


class Fingerprints:
    """The fingerprints of the queries of one task.

    Args:
        scope: what else is the same for all queries, such as the preset and its constants.
        versions: of documents, by id.
        with_scores: rows depend on the members' raw scores, too.
    """

    def __init__(
        self,
        task: MiningTask,
        members: Sequence[RememberingMember],
        scope: str,
        versions: Mapping[str, int],
        with_scores: bool = False,
    ) -> None:
        self._task, self._members, self._scope = task, members, scope.encode()
        self._with_scores = with_scores
        vectors, offsets = task.space.documents.vectors, task.space.documents.offsets.tolist()
        self._documents = np.array(
            [
                _compute_digest(
                    f"{id}\0{versions.get(id, 0)}\0".encode("utf-8", "surrogatepass"), vectors[a:b].tobytes()
                )
                for id, a, b in zip(task.corpus.ids, offsets, offsets[1:], strict=False)
            ],
            f"V{BYTES}",
        )

    def compute(self, start: int, end: int) -> list[str]:
        """Computes hex fingerprints of the queries from place ``start`` to before ``end``, whose lists the
        members remember."""
        queries = self._task.queries[start:end]
        unions = [self._join_lists(query) for query in queries]
        seen = self._hash_evidence(queries, unions)
        return [self._compute_one(*one) for one in zip(queries, unions, seen, strict=True)]

    def _compute_one(self, query: MiningQuery, union: Int32, seen: bytes) -> str:
        numbers = [positive.document for positive in query.positives]
        excluded = self._task.corpus.with_copies(np.array(numbers, np.int32))
        wordless = min(len(self._task.corpus.wordless), self._task.depth)
        depth = self._task.depth + wordless + len(excluded)
        digest = hashlib.blake2b(self._scope, digest_size=BYTES)
        asked = [query.id, query.text, [(p.weight, p.source) for p in query.positives]]
        digest.update(orjson.dumps(asked))
        for documents in (np.array(numbers, np.int32), excluded):
            digest.update(self._write_names(documents))
        for member in self._members:
            listed = member.list_remembered(query.text, depth)
            digest.update(len(listed).to_bytes(4, "little") + self._write_names(listed))
            if (relevance := member.read_relevance(query.text)) is not None:
                digest.update(np.nan_to_num(relevance, nan=-1.0).tobytes())
            if self._with_scores:
                digest.update(np.array(list(member.read_scores(query.text).values()), np.float32).tobytes())
        digest.update(self._task.space.queries.embed([query.text]).tobytes())
        digest.update(seen)
        return digest.hexdigest()

    def _join_lists(self, query: MiningQuery) -> Int32:
        found = [member.list_remembered(query.text) for member in self._members]
        return np.unique(np.concatenate([np.empty(0, np.int32), *found])).astype(np.int32)

    def _hash_evidence(self, queries: Sequence[MiningQuery], unions: Sequence[Int32]) -> list[bytes]:
        """Hashes what feedback knows of each query's pairs."""
        if not self._task.has_clicks:
            return [b""] * len(queries)
        own = [np.array([p.document for p in query.positives], np.int32) for query in queries]
        sizes = [len(union) * len(some) for union, some in zip(unions, own, strict=True)]
        document = np.concatenate([np.tile(u, len(o)) for u, o in zip(unions, own, strict=True)])
        positive = np.concatenate([np.repeat(o, len(u)) for u, o in zip(unions, own, strict=True)])
        place = np.repeat(np.arange(len(queries), dtype=np.int32), sizes)
        seen = self._task.feedback.observe([query.text for query in queries], place, positive, document)
        columns = np.stack([seen.shown, seen.refusals, seen.clicked, seen.clicked_near, seen.coclick])
        columns = np.nan_to_num(columns.astype(np.float32), nan=-1.0)
        ends = np.cumsum(sizes)[:-1]
        return [np.ascontiguousarray(some).tobytes() for some in np.split(columns, ends, axis=1)]

    def _write_names(self, numbers: Int32) -> bytes:
        return bytes(self._documents[numbers[numbers != NO_DOCUMENT]].tobytes())


def compute_scope(**parts: Any) -> str:
    """Computes one text for everything that all queries share."""
    return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=BYTES).hexdigest()


def _compute_digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=BYTES).digest()
