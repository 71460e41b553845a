"""Reads what verdicts rest on beside judgments: clicks, how often queries are asked, and earlier verdicts."""

from collections.abc import Sequence
from pathlib import Path

from quarry.clicks.log import ClickLog, read_clicks
from quarry.feedback.reading.guards import GuardPolicy
from quarry.feedback.tables import FILE_NAME
from quarry.questions import make_question_key
from quarry.registry.evidence_use import EvidenceUse, read_decisions
from quarry_trainer.data.live import RankedQuery
from quarry_trainer.data.matching_passages import open_documents
from quarry_trainer.evaluation.searches import count_searches


def read_displays(data: Path, key: int, guards: GuardPolicy) -> ClickLog:
    """Reads all clicks of a collection that the guards leave, of searches that typed something."""
    return read_clicks(data / FILE_NAME, key, guards, typed=True)


def count_frequency(log: ClickLog, ranked: Sequence[RankedQuery]) -> dict[str, int] | None:
    """Counts how often each query was asked, by id; None if none of them was."""
    asked = count_searches(log)
    found = {query.query_id: asked.get(make_question_key(query.text), 0) for query in ranked}
    return found if any(found.values()) else None


def read_evidence_use(data: Path, collection: str) -> EvidenceUse:
    """Reads what has decided on versions of a collection of the server whose data folder this is."""
    with open_documents(data) as database:
        return EvidenceUse(database.read(lambda connection: read_decisions(connection, collection)))
