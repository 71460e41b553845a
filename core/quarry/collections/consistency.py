"""The comparison of an arm's index with the log, and its repair."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from quarry.documents.follower import Follower
from quarry.documents.store import DocumentLog
from quarry.types import Change, Docno, Fields

SAMPLE = 100
_BATCH = 1_000


class VersionedIndex(Protocol):
    """An index that can say which version of each document it holds."""

    def read_versions(self) -> AsyncIterator[tuple[Docno, int]]: ...


@dataclass(frozen=True, slots=True)
class ArmDifferences:
    """The documents in which an arm differs from the log, by docno.

    Attributes:
        documents: how many were compared.
        missing: in the log, not in the arm.
        surplus: in the arm, deleted or unknown in the log.
        outdated: in both, at different versions.
        damaged: in both, with vectors that are not the document's.
        compared: in both, at the same version.
        files: what is wrong with the arm's files; empty if nothing is, or they are not looked at.
        vectors: how many stored ones were looked at.
        encoded: documents that were encoded again for that.
        wrongly_encoded: whether kept vectors are not what the encoder makes, so that all are in doubt.
    """

    arm: str
    documents: int
    missing: Sequence[Docno] = ()
    surplus: Sequence[Docno] = ()
    outdated: Sequence[Docno] = ()
    damaged: Sequence[Docno] = ()
    compared: Sequence[Docno] = ()
    files: str = ""
    vectors: int = 0
    encoded: int = 0
    wrongly_encoded: bool = False
    names: Mapping[Docno, str] = field(default_factory=dict)

    @property
    def consistent(self) -> bool:
        return not (self.missing or self.surplus or self.outdated or self.damaged or self.files)


async def compare(follower: Follower, index: VersionedIndex, log: DocumentLog) -> ArmDifferences:
    """Compares while the arm stands still; documents written since it last moved are left out."""
    async with follower.pause():
        held = {docno: version async for docno, version in index.read_versions()}
        at = follower.visible
        truth = await asyncio.to_thread(log.read_versions)
    moved = {docno for docno, (_, version, _) in truth.items() if version > at}
    current = {d: version for d, (_, version, gone) in truth.items() if version <= at and not gone}
    return ArmDifferences(
        follower.index.arm,
        len(current),
        missing=sorted(current.keys() - held.keys()),
        surplus=sorted(held.keys() - current.keys() - moved),
        outdated=sorted(d for d, version in current.items() if d in held and held[d] != version),
        compared=sorted(d for d, version in current.items() if held.get(d) == version),
        names={docno: id for docno, (id, _, _) in truth.items()},
    )


async def reapply(
    follower: Follower,
    differences: ArmDifferences,
    log: DocumentLog,
    forget: Callable[[Sequence[Fields]], Awaitable[None]] | None = None,
) -> None:
    """Applies again, from the log as it is now, whatever differed.

    Args:
        forget: drops what the arm keeps beside its index of documents that are damaged, so that it makes that
            anew.
    """
    docnos = [*differences.missing, *differences.outdated, *differences.surplus, *differences.damaged]
    damaged = set(differences.damaged)
    async with follower.pause():
        for start in range(0, len(docnos), _BATCH):
            batch = docnos[start : start + _BATCH]
            documents = await asyncio.to_thread(log.read, batch)
            kept = [documents[d].fields for d in batch if d in damaged and d in documents]
            if kept and forget is not None:
                await forget(kept)
            changes = [
                Change(docno, documents[docno].version, documents[docno].fields)
                if docno in documents
                else Change(docno, follower.visible, None)
                for docno in batch
            ]
            await follower.correct(changes)
