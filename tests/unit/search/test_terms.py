"""A query of terms through the first stage: what it excludes and requires holds for every arm."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from tests.unit.search.fakes import FixedArm, Stack

from quarry.deadline import Deadline
from quarry.ranking.queries import ArmPlan, Query
from quarry.retrieval.query_syntax import parse_text_query
from quarry.schema import DEFAULT_SCHEMA
from quarry.types import Docno, Fields

TEXTS: dict[int, Fields] = {
    1: {"text": "tea with milk"},
    2: {"text": "coffee with milk"},
    3: {"text": "coffee"},
    4: {"text": "water"},
}
DENSE = {4: 0.9, 2: 0.8, 1: 0.7, 3: 0.6, 9: 0.5}


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def make_query(stack: Stack, text: str) -> Query:
    terms = parse_text_query(text, DEFAULT_SCHEMA)
    return stack.make_query(str(terms), terms=terms)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("drink -coffee", [4, 1]),
        ("+coffee drink", [2, 3]),
        ("+milk -tea", [2]),
        ("drink -milk -water", [3]),
        ("+zzz drink", []),
        ("coffee drink", [4, 2, 1, 3]),
    ],
)
async def test_an_arm_that_compares_no_words_keeps_what_is_admitted(
    threads: ThreadPoolExecutor, text: str, found: list[int]
) -> None:
    stack = Stack([FixedArm("dense", DENSE)], threads, documents=TEXTS)
    ranking = await stack.searcher().rank(make_query(stack, text), Deadline.set_after(5))
    assert [document.docno for document in ranking.documents] == found
    assert not ranking.degraded


async def test_words_are_scored_as_the_query_boosts_them(threads: ThreadPoolExecutor) -> None:
    texts: dict[int, Fields] = {1: {"title": "tea", "text": "leaves"}, 2: {"text": "a tea"}}
    stack = Stack([FixedArm("bm25", {1: 1.0})], threads, documents=texts)
    stage, limit = stack.searcher().first_stage, Deadline.set_after(5)
    for scale in (0.0, 1.0, 3.0):
        query = stack.make_query("tea", arms=(ArmPlan("bm25", boost_scale=scale),))
        expected = stage.lexical.score_documents("tea", [Docno(1), Docno(2)], scale)
        assert await stage.score_by_words(query, [Docno(1), Docno(2), Docno(3)], limit) == expected
        assert await stage.find_matching(query, [Docno(2), Docno(3)], limit) == {2}
    without = stack.make_query("tea", arms=(ArmPlan("dense"),))
    assert await stage.score_by_words(without, [Docno(1)], limit) == stage.lexical.score_documents(
        "tea", [Docno(1)]
    )


def test_terms_are_no_part_of_how_a_search_is_configured(threads: ThreadPoolExecutor) -> None:
    stack = Stack([FixedArm("dense", DENSE)], threads)
    query = make_query(stack, "+milk -tea")
    assert query.hash_configuration() == replace(query, terms=None).hash_configuration()
    assert query.hash_configuration() == stack.make_query("milk").hash_configuration()
