"""Whether an arm holds exactly what the log says, and making it so."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from quarry.documents.follower import Follower
from quarry.documents.store import DocumentLog
from quarry.types import Change, Docno

SAMPLE = 100
_BATCH = 1_000


class VersionedIndex(Protocol):
    """An index that can say which version of each document it holds."""

    def versions(self) -> AsyncIterator[tuple[Docno, int]]: ...


@dataclass(frozen=True, slots=True)
class ArmDifferences:
    """How an arm differs from the log, by docno.

    Attributes:
        documents: how many were compared.
        missing: in the log, not in the arm.
        surplus: in the arm, deleted or unknown in the log.
        outdated: in both, at different versions.
    """

    arm: str
    documents: int
    missing: Sequence[Docno] = ()
    surplus: Sequence[Docno] = ()
    outdated: Sequence[Docno] = ()
    names: Mapping[Docno, str] = field(default_factory=dict)

    @property
    def consistent(self) -> bool:
        return not (self.missing or self.surplus or self.outdated)


async def compare(follower: Follower, index: VersionedIndex, log: DocumentLog) -> ArmDifferences:
    """Compares while the arm stands still; documents written since it last moved are left out."""
    async with follower.paused():
        held = {docno: version async for docno, version in index.versions()}
        at = follower.visible
        truth = await asyncio.to_thread(log.versions)
    moved = {docno for docno, (_, version, _) in truth.items() if version > at}
    current = {d: version for d, (_, version, gone) in truth.items() if version <= at and not gone}
    return ArmDifferences(
        follower.index.arm,
        len(current),
        missing=sorted(current.keys() - held.keys()),
        surplus=sorted(held.keys() - current.keys() - moved),
        outdated=sorted(d for d, version in current.items() if d in held and held[d] != version),
        names={docno: id for docno, (id, _, _) in truth.items()},
    )


async def reapply(follower: Follower, differences: ArmDifferences, log: DocumentLog) -> None:
    """Applies again, from the log as it is now, whatever differed."""
    docnos = [*differences.missing, *differences.outdated, *differences.surplus]
    async with follower.paused():
        for start in range(0, len(docnos), _BATCH):
            batch = docnos[start : start + _BATCH]
            documents = await asyncio.to_thread(log.read, batch)
            changes = [
                Change(docno, documents[docno].version, documents[docno].fields)
                if docno in documents
                else Change(docno, follower.visible, None)
                for docno in batch
            ]
            await follower.correct(changes)
