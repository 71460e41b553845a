"""Specs and reports of turns that never were."""

from typing import Any

from tests.unit.training.samples import metric

from quarry.training.loop_spec import LoopReport, LoopSpec, MinedInShort, QueryChange, RankChange


def loop_spec(name: str = "faq-1", key: int = 1, **changes: Any) -> LoopSpec:
    values = {
        "name": name, "collection": "faq", "collection_key": key, "server": "127.0.0.1:1",
        "min_new_choices": 3, "create_time_us": 1_000_000,
    }  # fmt: skip
    return LoopSpec.model_validate(values | changes)


def loop_report(name: str = "faq-1", **changes: Any) -> LoopReport:
    change = RankChange(document_id="d2", title="A title", rank_before=4, rank_after=1)
    values = {
        "name": name, "collection": "faq", "collection_key": 1, "start_us": 1_000_000, "end_us": 2_000_000,
        "outcome": "PROMOTED", "new_choices": 1_234, "min_new_choices": 200, "advice": ("do this",),
        "mining": MinedInShort(name="faq-set", verdict="GOOD", pairs=40, coverage=0.9, rows=280),
        "model": "faq@2", "model_verdict": "IMPROVED", "compared_with": "faq@1",
        "metrics": (metric("candidate", 0.5), metric("serving", 0.4), metric("difference", 0.1)),
        "changes": (QueryChange(query="lost password", times_asked=7, documents=(change,)),),
        "queries_compared": 20, "feedback_start_us": 100, "feedback_end_us": 900,
    }  # fmt: skip
    return LoopReport.model_validate(values | changes)
