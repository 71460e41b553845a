"""The cost of a reindex, extrapolated from a sample."""

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path

from quarry.collections.generation import DenseParts
from quarry.documents.store import DocumentLog

SAMPLE_DOCUMENTS = 64
MEASURE_S = 2.0
"""For so long texts of the sample are encoded to measure the speed."""
DOCUMENTS_PER_S, POINTS_PER_S = 20_000, 6_000
"""What the engines index, beside which encoding is slow; measured on one core."""
NUMBER_BYTES = 4
STORE_FACTOR = 6.0
"""Disk of the dense store by that of its vectors, at most: 6.1 measured with a graph of 20,000 points of 384
dimensions, write-ahead log and leftovers of building included; 2.4 with 5,000 points and no graph."""
CACHE_BYTES = 64
"""Of a row in the cache of vectors beside the vectors."""
DOCUMENT_BYTES = 1_000
"""In the lexical index, where there is none to measure."""


@dataclass(frozen=True, slots=True)
class ReindexEstimate:
    """The expected cost of a reindex.

    Attributes:
        documents: that exist.
        passages: that they are cut into; 0 without an encoder.
        tokens: of passages that have to be encoded.
        seconds: at the speed of the sample.
        disk_bytes: of the new indexes, and of the vectors that are kept; rather too much than too little.
        sampled_documents: in the sample.
        encoded_passages: of the sample, to measure the speed.
    """

    documents: int
    passages: int
    tokens: int
    seconds: float
    disk_bytes: int
    sampled_documents: int
    encoded_passages: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, float]) -> "ReindexEstimate | None":
        """Returns what ``as_dict`` made; None of an empty one."""
        return cls(**values) if values else None  # type: ignore[arg-type]  # as they were put in


async def estimate(
    log: DocumentLog, documents: int, lexical: Path, parts: DenseParts | None
) -> ReindexEstimate:
    """Estimates what indexing ``documents`` anew costs.

    Args:
        log: the collection's, viewed by the new schema.
        lexical: folder of the lexical index as it is now.
        parts: of the new dense arm; None if there will be none.

    Raises:
        ModelError: the encoder gives no usable vectors.
        LimitExceededError: too much waits for it already.
    """
    sample = await asyncio.to_thread(log.sample, SAMPLE_DOCUMENTS)
    disk = await asyncio.to_thread(_count_bytes, lexical) or documents * DOCUMENT_BYTES
    seconds = documents / DOCUMENTS_PER_S
    if parts is None or not sample:
        return ReindexEstimate(documents, 0, 0, seconds, disk, len(sample), 0)
    cost = await parts.vectors.measure(sample, MEASURE_S)
    scale = documents / cost.documents
    passages, new = cost.passages * scale, cost.new_passages * scale
    tokens = cost.new_tokens * scale
    speed = cost.encoded_tokens / cost.seconds if cost.encoded_tokens else 0.0
    vector = NUMBER_BYTES * parts.dimension
    disk += round(passages * STORE_FACTOR * vector + new * (vector + CACHE_BYTES))
    dense_s = passages / POINTS_PER_S + (tokens / speed if speed else 0.0)
    return ReindexEstimate(
        documents, round(passages), round(tokens), max(seconds, dense_s), disk, len(sample), cost.encoded
    )


def _count_bytes(folder: Path) -> int:
    """Counts the bytes of all files below ``folder``; those that go meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
