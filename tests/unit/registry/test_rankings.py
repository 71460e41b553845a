"""Ranking configurations: numbered, served, taken back, spent as evidence, and gone with their collection."""

from collections.abc import Callable
from typing import TypeVar

import pytest
import sqlalchemy as sa
from tests.unit.registry.small import Small

from quarry.documents.catalog import get_collection
from quarry.errors import FailedPreconditionError, NotFoundError
from quarry.ranking.ranking_configuration import RankingConfiguration
from quarry.registry.evidence_use import read_decisions
from quarry.registry.rankings import (
    RankingVersion,
    get_ranking,
    insert_ranking,
    list_rankings,
    read_earlier_ranking,
    serve_ranking,
)
from quarry.registry.serving import Note
from quarry.registry.versions import ModelState, find_deleted_keys_with_rows
from quarry.training.hashes import mark_queries, pack_marks
from quarry.training.spec import EvaluationReport, ModelVerdict, TuningResult

T = TypeVar("T")
MARKS = mark_queries(f"question {n}" for n in range(30))


def result(verdict: ModelVerdict = "IMPROVED", attempt: str = "one", dense: float = 0.5) -> TuningResult:
    return TuningResult(
        evaluation=EvaluationReport(verdict=verdict, source="judgments", queries=30),
        configuration=RankingConfiguration(weights={"bm25": 1 - dense, "dense": dense}),
        queries=30,
        source="judgments",
        attempt=attempt,
        decided_by=pack_marks(MARKS),
    )


def write(faq: Small, work: Callable[[sa.Connection], T]) -> T:
    return faq.database.writer.submit(work).result()


def register(faq: Small, made: TuningResult | None = None, collection: str = "faq") -> RankingVersion:
    key = faq.read_collection(collection).key

    def insert(connection: sa.Connection) -> RankingVersion:
        insert_ranking(connection, key, made or result())
        return list_rankings(connection, collection)[0]

    return write(faq, insert)


def serve(faq: Small, name: str, rollback: bool = False) -> None:
    write(faq, lambda c: serve_ranking(c, get_collection(c, "faq"), name, Note("me", "why"), rollback))


def earlier(faq: Small) -> str:
    return faq.database.read(lambda c: read_earlier_ranking(c, get_collection(c, "faq")))


def test_versions_are_numbered_and_listed_newest_first(faq: Small) -> None:
    first, second = register(faq, result(dense=0.5)), register(faq, result(dense=0.6))
    assert (first.name, second.name) == ("faq/ranking@1", "faq/ranking@2")
    listed = faq.database.read(lambda c: list_rankings(c, "faq"))
    assert [version.configuration.weights["dense"] for version in listed] == [0.6, 0.5]
    assert faq.database.read(lambda c: get_ranking(c, first.name)) == first
    with pytest.raises(NotFoundError):
        faq.database.read(lambda c: get_ranking(c, "faq/ranking@3"))


def test_lists_are_read_in_pages_of_one_collection_or_of_all(faq: Small) -> None:
    faq.create("other")
    for collection in ("faq", "other", "faq", "faq"):
        register(faq, collection=collection)

    def pages(collection: str = "") -> list[list[str]]:
        found: list[list[RankingVersion]] = []
        while page := faq.database.read(
            lambda c: list_rankings(c, collection, found[-1][-1].place if found else None, 2)
        ):
            found.append(page)
        return [[version.name for version in page] for page in found]

    assert pages("faq") == [["faq/ranking@3", "faq/ranking@2"], ["faq/ranking@1"]]
    assert pages() == [["faq/ranking@3", "faq/ranking@2"], ["other/ranking@1", "faq/ranking@1"]]


def test_what_serves_is_on_the_collection_and_is_walked_back_to_the_defaults(faq: Small) -> None:
    before = faq.read_collection().revision
    for _ in range(2):
        register(faq)
    with pytest.raises(FailedPreconditionError):
        earlier(faq)
    for number in (1, 2):
        serve(faq, f"faq/ranking@{number}")
    assert faq.read_collection().ranking_name == "faq/ranking@2"
    assert faq.read_collection().revision == before + 2
    states = [version.state for version in faq.database.read(lambda c: list_rankings(c, "faq"))]
    assert states == [ModelState.SERVING, ModelState.CANDIDATE]
    walked = []
    for _ in range(2):
        walked.append(earlier(faq))
        serve(faq, walked[-1], rollback=True)
    assert walked == ["faq/ranking@1", ""]
    assert faq.read_collection().ranking is None
    with pytest.raises(FailedPreconditionError):
        earlier(faq)


def test_the_histories_of_rankings_and_of_rerankers_are_apart(faq: Small) -> None:
    faq.register("weights")
    faq.serve("faq@1")
    register(faq)
    serve(faq, "faq/ranking@1")
    assert faq.earlier() == ""
    faq.serve("", rollback=True)
    assert faq.read_collection().ranking_name == "faq/ranking@1"
    assert earlier(faq) == ""


def test_a_configuration_of_another_collection_does_not_serve(faq: Small) -> None:
    faq.create("other")
    register(faq, collection="other")
    with pytest.raises(FailedPreconditionError, match="another collection"):
        serve(faq, "other/ranking@1")


def test_what_decided_on_a_configuration_is_spent(faq: Small) -> None:
    for attempt, verdict in (("one", "IMPROVED"), ("two", "NO_IMPROVEMENT"), ("three", "INSUFFICIENT_DATA")):
        register(faq, result(verdict, attempt))  # type: ignore[arg-type]
    decided = faq.database.read(lambda c: read_decisions(c, "faq"))
    assert {one.attempt for one in decided} == {"one", "two"}
    assert all(one.queries == MARKS for one in decided)


def test_rows_go_with_their_collection(faq: Small) -> None:
    key = register(faq).key
    faq.delete()
    assert faq.database.read(find_deleted_keys_with_rows) == [key]
    faq.registry.remove_by_collection(key)
    assert faq.database.read(find_deleted_keys_with_rows) == []
    faq.create("faq")
    assert faq.database.read(lambda c: list_rankings(c, "faq")) == []
