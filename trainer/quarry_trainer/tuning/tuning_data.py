"""The queries that a tuning learns from: judged, or with what people chose, as mining finds it in the log."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import orjson

from quarry.jobs.waited_for import note_operation
from quarry.judgments import Disputed
from quarry.mining.sets import EXAMPLES, MiningSets
from quarry.mining.spec import JudgedQuery
from quarry.training.spec import TuningSpec
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry_trainer.data.contradictions import settle_queries
from quarry_trainer.data.dataset import BadExamplesError, read_examples
from quarry_trainer.loop.calls import ServerCalls


@dataclass(frozen=True, slots=True)
class TuningData:
    """Queries to learn from; each has a relevant document.

    Attributes:
        data_hash: of queries and judgments, or of the file of positives.
        feedback_us: times of the first and the last page that positives rest on; None: of judgments.
        disputed: judgments that contradicted each other.
    """

    queries: tuple[JudgedQuery, ...]
    source: Literal["judgments", "clicks"]
    data_hash: str
    simulated: bool = False
    feedback_us: tuple[int, int] | None = None
    disputed: Disputed = ()


MAX_QUERIES = 2_000
"""That are fitted to and searched: more would take longer and hardly move a dozen numbers."""


def draw_queries(tuning_queries: TuningData, seed: int) -> TuningData:
    """Draws at most ``MAX_QUERIES`` of the queries of ``tuning_queries``, by a hash of their ids."""

    def hash_query(query: JudgedQuery) -> bytes:
        return hashlib.blake2b(f"{seed}\0{query.id}".encode("utf-8", "surrogatepass")).digest()

    if len(tuning_queries.queries) <= MAX_QUERIES:
        return tuning_queries
    last = sorted(map(hash_query, tuning_queries.queries))[MAX_QUERIES - 1]
    return replace(
        tuning_queries, queries=tuple(query for query in tuning_queries.queries if hash_query(query) <= last)
    )


def keep_judged(queries: Sequence[JudgedQuery]) -> TuningData:
    """Keeps the queries with a relevant document: by the others nothing can be told."""
    settled, disputed = settle_queries(queries)
    own = tuple(query for query in settled if max(query.judgments.values(), default=0) > 0)
    written = orjson.dumps([query.model_dump() for query in own], option=orjson.OPT_SORT_KEYS)
    return TuningData(own, "judgments", hashlib.sha256(written).hexdigest(), disputed=disputed)


def read_chosen(server: ServerCalls, spec: TuningSpec, data: Path, folder: Path) -> TuningData:
    """Reads what people chose, the effect of ranks taken out: the positives of a mining set, made for this.

    Negatives are not looked at, so the cheapest are asked for.

    Args:
        folder: of the job; the name of the mining lies there, for the server to end it with the job.

    Raises:
        BadExamplesError: there is no positive.
        QuarryError: mining failed.
    """
    request = mining_pb.MineHardNegativesRequest(
        collection=spec.collection,
        preset="random",
        feedback=mining_pb.FeedbackPositives(),
        negatives=1,
        seed=spec.seed,
        request_id=hashlib.blake2b(spec.name.encode(), digest_size=16).hexdigest(),
    )
    operation = server.ask(server.mining.MineHardNegatives, request)
    note_operation(folder, operation.name)
    made = mining_pb.MiningSet()
    server.finish(operation, lambda _: None).response.Unpack(made)
    if made.verdict == mining_pb.MINING_VERDICT_NO_DATA:
        raise BadExamplesError("; ".join(made.advice) or "nobody has chosen anything yet")
    examples = read_examples(MiningSets(data).locate(made.name) / EXAMPLES)
    texts = examples.queries
    queries = tuple(
        JudgedQuery(id=id, text=texts[id], judgments=judgments)
        for id, judgments in examples.positives.items()
    )
    return TuningData(queries, "clicks", examples.data_hash, examples.simulated, examples.feedback_us)
