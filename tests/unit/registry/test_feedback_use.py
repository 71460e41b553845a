"""A purge of feedback names the versions that may have learned from it."""

import pytest
from tests.unit.registry.small import RESULT, Small, model_folder

from quarry.ranking.ranking_configuration import RankingConfiguration
from quarry.registry.feedback_use import list_learned_from
from quarry.registry.rankings import insert_ranking
from quarry.training.spec import EvaluationReport, TuningResult


def trained(faq: Small, base: str, start_us: int | None, end_us: int | None, teacher: str = "") -> str:
    changes = {"base": base, "teacher": teacher, "feedback_start_us": start_us, "feedback_end_us": end_us}
    folder = model_folder(faq.data / "made" / "m", "weights")
    return faq.registry.register("faq", "reranker", folder, RESULT.model_copy(update=changes)).name


def named(faq: Small, start_us: int | None, end_us: int | None) -> list[str]:
    key = faq.read_collection().key
    return faq.database.read(lambda connection: list_learned_from(connection, key, start_us, end_us))


@pytest.mark.parametrize(
    ("start_us", "end_us", "found"),
    [
        (None, None, True),
        (None, 100, False),
        (None, 101, True),
        (200, None, True),
        (201, None, False),
        (120, 130, True),
        (201, 300, False),
    ],
)
def test_a_version_is_named_if_its_feedbacks_time_overlaps(
    faq: Small, start_us: int | None, end_us: int | None, found: bool
) -> None:
    name = trained(faq, "a-base", 100, 200)
    assert named(faq, start_us, end_us) == ([name] if found else [])


def test_what_was_trained_from_it_is_named_too_and_what_is_retired_is_not(faq: Small) -> None:
    first = trained(faq, "a-base", 100, 200)
    child = trained(faq, first, 300, 400)
    trained(faq, "a-base", 300, 400)
    trained(faq, "a-base", None, None)
    faq.register("imported")
    student = trained(faq, "a-base", 300, 400, teacher=child)
    assert named(faq, None, 250) == [first, child, student]
    faq.registry.retire(first)
    assert named(faq, None, 250) == [child, student]


@pytest.mark.parametrize(("end_us", "found"), [(100, False), (101, True)])
def test_a_ranking_configuration_is_named_if_its_feedbacks_time_overlaps(
    faq: Small, end_us: int, found: bool
) -> None:
    made = TuningResult(
        evaluation=EvaluationReport(verdict="IMPROVED", source="clicks"),
        configuration=RankingConfiguration(),
        queries=30,
        source="clicks",
        feedback_start_us=100,
        feedback_end_us=200,
    )
    key = faq.read_collection().key
    faq.database.writer.submit(lambda connection: insert_ranking(connection, key, made)).result()
    assert named(faq, None, end_us) == (["faq/ranking@1"] if found else [])
