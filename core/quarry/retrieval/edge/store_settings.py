"""The settings of a store on Qdrant Edge, and its status."""

from dataclasses import dataclass
from pathlib import Path

from quarry.retrieval.heartbeat import DEFAULT_PATIENCE, Patience
from quarry.schema import Field

VECTOR = "passage"
"""What the engine calls the vector of a point."""


@dataclass(frozen=True, slots=True)
class GraphPolicy:
    """The rules by which the HNSW graph is built.

    Attributes:
        m: edges a node has.
        ef_construct: candidates looked at for each edge while building.
        ef: candidates that a search through the graph looks at, unless twice its hits are more.
        min_pending: points written since the last build before the next one starts by itself.
        min_pending_share: the same as a share of all points, so that builds of a large store stay rare.
        exact_below: a filter that fewer points match is answered by looking at each of them:
            up to here that is as fast as the graph, and loses nothing.
        indexing_threshold_kb: vectors of a segment below which no graph is built for it.
        threads: of a build.
        niceness: of a build, 0 to 19.
    """

    m: int = 16
    ef_construct: int = 128
    ef: int = 256
    min_pending: int = 10_000
    min_pending_share: float = 0.1
    exact_below: int = 40_000
    indexing_threshold_kb: int = 1_000
    threads: int = 2
    niceness: int = 15


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """One generation of a collection's vectors.

    Attributes:
        folder: holds the shard and the position; made if missing.
        generation: which index this is; a folder of another one is refused.
        dimension: of the vectors.
        fields: filterable fields of the schema.
        graph: how and when HNSW is built.
        lock_wait_s: how long to wait for a process that died to let go of its files.
        patience: with a process that does not answer.
    """

    folder: Path
    generation: str
    dimension: int
    fields: tuple[Field, ...]
    graph: GraphPolicy = GraphPolicy()
    lock_wait_s: float = 30.0
    patience: Patience = DEFAULT_PATIENCE


@dataclass(frozen=True, slots=True)
class EdgeStatus:
    """The status of a store.

    Attributes:
        points: passages, and documents without any.
        indexed: vectors that the graph holds, those replaced since included.
        pending: points written since the graph was built.
        building: whether a graph is being built.
    """

    points: int
    indexed: int
    pending: int
    building: bool
