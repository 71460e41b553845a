"""What a task's notes say of the members and the re-ranker that were chosen."""

from typing import Any

from tests.unit.miner.small import draw_texts, make_corpus

from quarry.documents.catalog import PassagePolicy
from quarry.models.calibration import Calibration
from quarry_miner.job.task_builder import Sources, assemble
from quarry_miner.members.reranker_member import NO_BELIEF, Belief
from quarry_miner.presets.registry import make_preset

CALIBRATED = Belief(
    calibration=Calibration(
        slope=1.0,
        intercept=0.0,
        source="judgments",
        queries=40,
        pairs=400,
        relevant=40,
        ece=0.02,
        ece_all=0.01,
    )
)
UNUSED = "only the member fused knows it"


def read_notes(preset: str, belief: Belief) -> str:
    nothing: Any = None
    sources = Sources(make_corpus(draw_texts(30, 0)), nothing, None, PassagePolicy(), nothing, belief=belief)
    return " ".join(assemble(make_preset(preset), [], sources, members=["lsa"]).notes)


def test_relevance_that_no_named_member_brings_is_said_to_be_unused() -> None:
    assert UNUSED in read_notes("quarry", CALIBRATED)


def test_nothing_is_said_where_there_is_no_relevance_or_the_preset_does_not_ask_for_it() -> None:
    assert UNUSED not in read_notes("quarry", NO_BELIEF)
    assert UNUSED not in read_notes("topk", CALIBRATED)
