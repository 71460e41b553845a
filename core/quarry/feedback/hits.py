"""Hits as bytes: columns of one kind after another, compressed, a tenth of what JSON takes.

A column of doubles that are known to say nothing (no re-ranker, no cascade, no exploration) is left out.
"""

import struct
import zlib
from array import array
from collections.abc import Sequence

import orjson

from quarry.feedback.types import LoggedHit

CONTENT_BYTES = 16
_NONE = float("nan")
_FORMAT = 1
_HEAD = struct.Struct("<BII")


def pack_hits(hits: Sequence[LoggedHit]) -> bytes:
    """Packs ``hits`` as ``unpack_hits`` reads them."""
    arms = sorted({name for hit in hits for name in hit.arms})
    reranked = any(hit.rerank_score is not None for hit in hits)
    explored = any(hit.rank_probability != 1.0 or hit.rank_before != hit.rank for hit in hits)
    models = max((len(hit.cascade_scores) for hit in hits), default=0)
    told = [[hit.document_id for hit in hits], arms, reranked, explored]
    head = orjson.dumps([*told, models] if models else told)
    columns = [
        _HEAD.pack(_FORMAT, len(hits), len(head)),
        head,
        b"".join(bytes.fromhex(hit.content).ljust(CONTENT_BYTES, b"\0") for hit in hits),
        array("q", [hit.version for hit in hits]).tobytes(),
        array("q", [hit.rank for hit in hits]).tobytes(),
        _read_doubles([hit.score for hit in hits]),
        _read_doubles([hit.fused_score for hit in hits]),
    ]
    if reranked:
        columns.append(_read_doubles([_NONE if h.rerank_score is None else h.rerank_score for h in hits]))
    if explored:
        columns.append(array("q", [hit.rank_before for hit in hits]).tobytes())
        columns.append(_read_doubles([hit.rank_probability for hit in hits]))
    for name in arms:
        places = [hit.arms.get(name, (-1, None)) for hit in hits]
        columns.append(array("q", [rank for rank, _ in places]).tobytes())
        columns.append(_read_doubles([_NONE if score is None else score for _, score in places]))
    by_model = zip(*(hit.cascade_scores for hit in hits), strict=True)
    columns += (_read_doubles([_NONE if score is None else score for score in scores]) for scores in by_model)
    return zlib.compress(b"".join(columns), 1)


def unpack_hits(data: bytes | None) -> tuple[LoggedHit, ...]:
    """Unpacks what ``pack_hits`` was given; nothing for None."""
    if data is None:
        return ()
    raw = zlib.decompress(data)
    form, count, size = _HEAD.unpack_from(raw)
    if form != _FORMAT:
        raise ValueError(f"hits of format {form} cannot be read")
    ids, names, reranked, explored, *models = orjson.loads(raw[_HEAD.size : _HEAD.size + size])
    place = _HEAD.size + size

    def read_contents() -> list[str]:
        nonlocal place
        place += CONTENT_BYTES * count
        cut = range(place - CONTENT_BYTES * count, place, CONTENT_BYTES)
        return [_to_hex(raw[start : start + CONTENT_BYTES]) for start in cut]

    def read_column(kind: str) -> "array[float]":
        nonlocal place
        place += 8 * count
        return array(kind, raw[place - 8 * count : place])

    content = read_contents()
    version, rank = read_column("q"), read_column("q")
    score, fused = read_column("d"), read_column("d")
    rerank = _read_optional(read_column("d")) if reranked else [None] * count
    before = read_column("q") if explored else rank
    probability: Sequence[float] = read_column("d") if explored else [1.0] * count
    arms = {name: (read_column("q"), _read_optional(read_column("d"))) for name in names}
    cascade = [_read_optional(read_column("d")) for _ in range(models[0] if models else 0)]
    return tuple(
        LoggedHit(
            ids[n],
            int(version[n]),
            int(rank[n]),
            score[n],
            fused[n],
            rerank[n],
            {name: (int(ranks[n]), scores[n]) for name, (ranks, scores) in arms.items() if ranks[n] >= 0},
            content[n],
            int(before[n]),
            probability[n],
            tuple(scores[n] for scores in cascade),
        )
        for n in range(count)
    )


def unpack_ids(data: bytes) -> list[str]:
    """Unpacks the document ids of packed hits, in order."""
    raw = zlib.decompress(data)
    _, _, size = _HEAD.unpack_from(raw)
    ids: list[str] = orjson.loads(raw[_HEAD.size : _HEAD.size + size])[0]
    return ids


def unpack_contents(data: bytes | None) -> list[bytes]:
    """Unpacks the hashes of the texts that packed hits refer to, without the rest."""
    if data is None:
        return []
    raw = zlib.decompress(data)
    _, count, size = _HEAD.unpack_from(raw)
    start = _HEAD.size + size
    found = [raw[n : n + CONTENT_BYTES] for n in range(start, start + CONTENT_BYTES * count, CONTENT_BYTES)]
    return [content for content in found if any(content)]


def _read_doubles(values: list[float]) -> bytes:
    return array("d", values).tobytes()


def _read_optional(values: Sequence[float]) -> list[float | None]:
    return [None if value != value else value for value in values]  # NaN stands for None


def _to_hex(content: bytes) -> str:
    return content.hex() if any(content) else ""
