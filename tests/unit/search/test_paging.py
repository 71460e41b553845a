"""Pages beyond a merged list: what is browsed has an end only where the documents end, and what BM25 finds
below its depth follows when a page asks for it."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.search.fakes import FixedArm
from tests.unit.search.searched import TAGGED, Searched, asked, ids, places, searched, slot

from quarry.errors import PageExpiredError, RetrieverUnavailableError
from quarry.ranking.queries import MAX_RANKED, ArmPlan, Rrf, WeightedSum
from quarry.ranking.score_scale import ScoreBasis, scale_score
from quarry.search.exploration import FairPairs, compute_seed
from quarry.search.service import BROWSED_AT_ONCE, SearchPage

MANY = 250
SWAPS = FairPairs(swap_probability=0.5, depth=20)


def fill(faq: Searched, numbers: range, tag: str = "x") -> None:
    for number in numbers:
        faq.documents.put(number, {"text": f"t{number}", "tag": tag}, version=1)


@pytest.fixture
def many() -> Iterator[Searched]:
    """``MANY`` documents, ``d0`` the oldest."""
    with searched() as made:
        fill(made, range(MANY))
        made.stack.documents = {n: {"text": f"t{n}", "tag": "x"} for n in range(MANY)}
        yield made


async def browse_all(faq: Searched, sizes: list[int], **changes: object) -> list[SearchPage[str]]:
    found = [await faq.search(text="", size=sizes[0], **changes)]
    while found[-1].next is not None:
        size = sizes[len(found) % len(sizes)]
        found.append(await faq.browse_on(found[-1].next, size=size, **changes))
    return found


async def test_browsing_reaches_every_document_in_any_pages(many: Searched) -> None:
    for sizes in ([7], [100], [101, 3], [MANY], [1_000]):
        found = await browse_all(many, sizes)
        assert [id for page in found for id in ids(page)] == [f"d{n}" for n in range(MANY)]
        assert [place for page in found for place in places(page.hits)] == list(range(MANY))
        assert {page.place.key for page in found} == {found[0].place.key}
        assert {page.ranking.total.count for page in found} == {MANY}
        assert {page.ranking.reach.hits.count for page in found} == {MANY}
        assert all(hit.ranked.scored_by is ScoreBasis.BROWSED for page in found for hit in page.hits)


async def test_browsing_keeps_no_list_and_outlives_the_indexes_that_it_began_with(many: Searched) -> None:
    first = await many.search(text="", size=10)
    with pytest.raises(PageExpiredError):
        many.pages.get(first.place.key)
    many.generation = "h"
    second = await many.browse_on(first.next, size=10)
    assert ids(second) == [f"d{n}" for n in range(10, 20)]


async def test_what_is_written_while_somebody_browses_comes_at_the_end_and_nothing_twice(
    many: Searched,
) -> None:
    first = await many.search(text="", size=100, filter=TAGGED)
    for number in (50, 120, 121):  # before and behind the place where the next page begins
        many.documents.remove(number)
    many.documents.put(130, {"text": "changed", "tag": "y"})  # the index does not know yet
    many.documents.put(140, {"text": "changed", "tag": "x"})
    fill(many, range(MANY, MANY + 5))
    many.stack.documents = {
        **{n: fields for n, fields in many.stack.documents.items() if n != 121},
        **{n: {"text": f"t{n}", "tag": "x"} for n in range(MANY, MANY + 5)},
    }
    shown, page = ids(first), first
    while page.next is not None:
        page = await many.browse_on(page.next, size=100, filter=TAGGED)
        shown += ids(page)
    expected = [f"d{n}" for n in range(MANY + 5) if n not in (120, 121, 130)]
    assert shown == expected


async def test_a_page_is_not_empty_because_the_index_lags_behind_deletions(many: Searched) -> None:
    first = await many.search(text="", size=10)
    for number in range(10, 240):
        many.documents.remove(number)
    second = await many.browse_on(first.next, size=10)
    assert ids(second) == [f"d{n}" for n in range(240, MANY)]
    assert second.next is None


async def test_a_page_that_large_documents_make_smaller_loses_none(many: Searched) -> None:
    first = await many.search(text="", size=10, max_bytes=1)
    assert ids(first) == ["d0"]
    assert ids(await many.browse_on(first.next, size=3)) == ["d1", "d2", "d3"]


async def test_browsing_is_explored_in_the_first_ranks_alone_and_by_every_page_alike(many: Searched) -> None:
    plain = [f"d{n}" for n in range(MANY)]
    for sizes in ([7], [30], [1_000], [19, 2]):
        found = await browse_all(many, sizes, exploration=SWAPS)
        order = SWAPS.draw_order(compute_seed(found[0].place.key), MANY)
        shown = [id for page in found for id in ids(page)]
        assert shown == [plain[place] for place in order] + plain[len(order) :]
        for given_page in many.log.pages[-len(found) :]:
            assert given_page.explored in (BROWSED_AT_ONCE, MANY, 0)


async def test_a_deeply_explored_browse_ends_if_the_index_lags_behind_deletions(many: Searched) -> None:
    """The list to choose from is then shorter than the depth of exploration."""
    gone = (3, 50, 99, 102)
    for number in gone:
        many.documents.remove(number)
    deepest = FairPairs(swap_probability=0.5, depth=100)
    for sizes in ([7], [96], [97], [1_000]):
        found = await browse_all(many, sizes, exploration=deepest)
        shown = [id for page in found for id in ids(page)]
        assert sorted(shown) == sorted(f"d{n}" for n in range(MANY) if n not in gone)
        assert shown[100:] == [f"d{n}" for n in range(104, MANY)]


@pytest.fixture
def deep() -> Iterator[Searched]:
    """BM25 has 60 documents, of which a search merges 8; the dense arm has three of its own and ``d40``."""
    with searched() as made:
        fill(made, range(70))
        yield made


def ask(faq: Searched, words: int = 60, **changes: object) -> None:
    lexical = FixedArm("bm25", {n: 9.0 - n / 10 for n in range(words)}, **changes)  # type: ignore[arg-type]
    faq.stack.arms = [lexical, FixedArm("dense", {n: 0.9 - n / 100 for n in (40, 61, 62, 63)})]


async def search_deep(faq: Searched, **changes: object) -> SearchPage[str]:
    query = faq.stack.make_query(
        arms=(ArmPlan("bm25", 8, 0.25), ArmPlan("dense", 8, 0.75)), deepens=changes.pop("deepens", True)
    )
    request = asked(**changes)  # type: ignore[arg-type]
    return await faq.service.search(faq.collection, query, request, faq.hold(), slot())


async def read_on(faq: Searched, page: SearchPage[str], **changes: object) -> list[SearchPage[str]]:
    found = [page]
    while found[-1].next is not None:
        found.append(await faq.turn(found[-1].next, **changes))
    return found


async def test_what_bm25_finds_below_its_depth_follows_in_its_order(deep: Searched) -> None:
    ask(deep)
    whole = await search_deep(deep, size=1_000)
    merged = {f"d{n}" for n in (*range(8), 40, 61, 62, 63)}
    assert set(ids(whole)[: len(merged)]) == merged
    assert ids(whole)[len(merged) :] == [f"d{n}" for n in range(60) if f"d{n}" not in merged]
    assert (whole.next, len(whole.hits)) == (None, whole.ranking.reach.hits.count)
    scores = [
        scale_score(hit.ranked.scored_by, hit.ranked.score, whole.ranking.highest_fused) for hit in whole.hits
    ]
    assert all(above >= below for above, below in pairwise(scores))
    assert [hit.ranked.scored_by for hit in whole.hits].count(ScoreBasis.BM25) == len(scores) - len(merged)
    for size in (1, 5, 11, 12, 13, 59):
        for explain in (False, True):
            pages = await read_on(deep, await search_deep(deep, size=size, explain=explain), size=size)
            assert [id for page in pages for id in ids(page)] == ids(whole)
            given_scores = [hit.ranked.score for page in pages for hit in page.hits]
            assert given_scores == pytest.approx([hit.ranked.score for hit in whole.hits])
            bases = [hit.ranked.scored_by for page in pages for hit in page.hits]
            assert bases == [hit.ranked.scored_by for hit in whole.hits]


async def test_what_follows_scores_as_if_the_other_arms_had_found_nothing(deep: Searched) -> None:
    """With BM25 alone that is the fused score: the depth then moves nothing."""
    ask(deep)
    for hit in (await search_deep(deep, size=100, explain=True)).hits[12:]:
        (place,) = hit.ranked.arms.values()
        assert (place.score, place.rank) == (
            pytest.approx(9.0 - hit.document.docno / 10),
            hit.document.docno + 1,
        )
        assert hit.ranked.fused_score == pytest.approx(0.25 * (place.score or 0.0) / 10)
    found = {}
    for depth in (3, 50):
        deep.stack.arms = deep.stack.arms[:1]
        query = deep.stack.make_query(arms=(ArmPlan("bm25", depth),), deepens=True)
        page = await deep.service.search(deep.collection, query, asked(size=100), deep.hold(), slot())
        found[depth] = [(hit.document.id, pytest.approx(hit.ranked.score)) for hit in page.hits]
    assert found[3] == found[50]


async def test_what_follows_keeps_its_scores_where_all_that_was_merged_is_deleted(deep: Searched) -> None:
    """The index lags behind the deletions, so that the merged list is empty."""
    ask(deep)
    for number in (*range(8), 40, 61, 62, 63):
        deep.documents.remove(number)
    page = await search_deep(deep, size=5)
    assert ids(page) == [f"d{n}" for n in range(8, 13)]
    scores = [hit.ranked.score for hit in page.hits]
    assert scores == pytest.approx([0.25 * (9.0 - n / 10) / 10 for n in range(8, 13)])


async def test_nobody_looks_below_the_depth_before_a_page_asks_for_it(deep: Searched) -> None:
    ask(deep)
    first = await search_deep(deep, size=12)
    assert first.ranking.rest is not None
    assert first.next is not None
    ask(deep, error=RetrieverUnavailableError("bm25", "away"))
    with pytest.raises(RetrieverUnavailableError):
        await deep.turn(first.next, size=12)
    ask(deep)
    assert len((await deep.turn(first.next, size=12)).hits) == 12


async def test_if_bm25_fails_below_its_depth_the_page_has_what_there_is_and_the_next_one_tries_again(
    deep: Searched,
) -> None:
    ask(deep)
    first = await search_deep(deep, size=10)
    ask(deep, error=RetrieverUnavailableError("bm25", "away"))
    second = await deep.turn(first.next, size=10)
    assert len(second.hits) == 2
    ask(deep)
    third = await deep.turn(second.next, size=100)
    assert len(third.hits) == first.ranking.reach.hits.count - 12


async def test_a_list_with_a_stated_depth_ends_where_it_says(deep: Searched) -> None:
    ask(deep)
    page = await search_deep(deep, size=1_000, deepens=False)
    assert (len(page.hits), page.next) == (12, None)


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(60, 400), min_size=1, max_size=3), words=st.integers(900, 1_100))
async def test_the_list_ends_at_a_thousand(sizes: list[int], words: int) -> None:
    with searched() as faq:
        fill(faq, range(1_200))
        ask(faq, words)
        pages = [await search_deep(faq, size=sizes[0])]
        while pages[-1].next is not None:
            pages.append(await faq.turn(pages[-1].next, size=sizes[len(pages) % len(sizes)]))
        shown = [id for page in pages for id in ids(page)]
        assert len(shown) == len(set(shown)) == min(MAX_RANKED, words)
        assert pages[0].ranking.reach.hits.count == len(shown)


@settings(deadline=None, max_examples=60)
@given(
    weights=st.tuples(st.floats(0, 5), st.floats(0, 5)),
    depths=st.tuples(st.integers(1, 40), st.integers(1, 5)),
    fusion=st.sampled_from([WeightedSum(), Rrf(), Rrf(1.0)]),
    equal=st.booleans(),
)
async def test_scores_never_rise_from_what_is_merged_to_what_follows(
    weights: tuple[float, float], depths: tuple[int, int], fusion: WeightedSum | Rrf, equal: bool
) -> None:
    with searched() as faq:
        fill(faq, range(70))
        faq.stack.arms = [
            FixedArm("bm25", {n: 5.0 if equal else 9.0 - n / 10 for n in range(60)}),
            FixedArm("dense", {n: 0.9 - n / 100 for n in (40, 61, 62, 63)}),
        ]
        arms = tuple(map(ArmPlan, ("bm25", "dense"), depths, weights))
        query = faq.stack.make_query(arms=arms, fusion=fusion, deepens=True)
        page = await faq.service.search(faq.collection, query, asked(size=100), faq.hold(), slot())
        highest = page.ranking.highest_fused
        scores = [scale_score(hit.ranked.scored_by, hit.ranked.score, highest) for hit in page.hits]
        assert all(above >= below for above, below in pairwise(scores)), scores
        assert {int(hit.document.docno) for hit in page.hits} >= set(range(60))
        assert len(set(ids(page))) == len(page.hits)


async def test_what_follows_below_is_logged_as_not_explored(deep: Searched) -> None:
    ask(deep)
    swaps = FairPairs(0.5, depth=50)
    pages = await read_on(deep, await search_deep(deep, size=7, exploration=swaps), size=7, exploration=swaps)
    assert {page.explored for page in deep.log.pages} == {12}
    shown = [id for page in pages for id in ids(page)]
    plain = ids(await search_deep(deep, size=1_000))
    order = swaps.draw_order(compute_seed(pages[0].place.key), 12)
    assert shown == [plain[place] for place in order] + plain[len(order) :]
