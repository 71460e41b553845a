"""A search from its query to the page that is given out and logged: each step shows in what comes out."""

from collections.abc import Iterator

import pytest
from tests.unit.search.fakes import FixedArm
from tests.unit.search.searched import (
    ALWAYS,
    COUNT,
    RENDERED_BYTES,
    TAGGED,
    Searched,
    asked,
    ids,
    places,
    searched,
)

from quarry.deadline import Deadline
from quarry.errors import ModelNotFoundError, PageExpiredError
from quarry.search.answer_schedule import Slot
from quarry.search.exploration import FairPairs, compute_seed, explore, undo_exploration
from quarry.search.result_pages import ListPlace
from quarry.search.service import BARE_BYTES, EXPLAINED_BYTES, LIST_BYTES, SearchPage


@pytest.fixture
def faq() -> Iterator[Searched]:
    with searched() as made:
        yield made


async def read_all(faq: Searched, first: SearchPage[str], **changes: object) -> list[str]:
    """Ids of all pages."""
    found, page = ids(first), first
    while page.next is not None:
        page = await faq.turn(page.next, **changes)
        found += ids(page)
    return found


async def test_pages_follow_each_other_through_one_ranked_list(faq: Searched) -> None:
    first = await faq.search()
    second = await faq.turn(first.next)
    third = await faq.turn(second.next, size=100)
    assert [ids(first), ids(second)] == [["d0", "d1", "d2", "d3"], ["d4", "d5", "d6", "d7"]]
    assert (ids(third), places(third.hits), third.next) == (["d8", "d9"], [8, 9], None)
    assert {page.place.key for page in (first, second, third)} == {first.place.key}
    assert [page.place.offset for page in (first, second, third)] == [0, 4, 8]
    assert [hit.rendered for hit in third.hits] == ["<d8 v1>", "<d9 v1>"]
    assert len(faq.arm.held_when_asked) == 1, "a later page ranks nothing"


async def test_no_two_searches_share_their_pages(faq: Searched) -> None:
    assert (await faq.search()).place.key != (await faq.search()).place.key


async def test_a_search_that_fits_on_one_page_keeps_no_list(faq: Searched) -> None:
    page = await faq.search(size=COUNT)
    assert page.next is None
    with pytest.raises(PageExpiredError):
        await faq.turn(ListPlace(page.place.key, 4))


async def test_a_place_in_no_kept_list_is_refused(faq: Searched) -> None:
    await faq.search()
    with pytest.raises(PageExpiredError):
        await faq.turn(ListPlace("made up", 4))


async def test_a_list_of_other_indexes_is_refused(faq: Searched) -> None:
    """They count documents anew: the same number may name another document, of another collection too."""
    first = await faq.search()
    faq.generation = "h"
    with pytest.raises(PageExpiredError):
        await faq.turn(first.next)


async def test_documents_that_are_deleted_between_pages_are_not_shown(faq: Searched) -> None:
    first = await faq.search()
    for number in (4, 6):
        faq.documents.remove(number)
    second = await faq.turn(first.next)
    assert (ids(second), places(second.hits)) == (["d5", "d7", "d8", "d9"], [5, 7, 8, 9])
    assert second.next is None


async def test_a_page_shows_documents_as_they_are_now(faq: Searched) -> None:
    first = await faq.search()
    faq.documents.put(4, {"text": "new", "tag": "x"}, version=5)
    second = await faq.turn(first.next)
    assert second.hits[0].rendered == "<d4 v5>"
    assert second.hits[0].document.fields["text"] == "new"


async def test_a_document_that_passes_the_filter_no_longer_is_not_on_a_later_page(faq: Searched) -> None:
    first = await faq.search(filter=TAGGED)
    faq.documents.put(5, {"text": "t5", "tag": "y"})
    assert ids(await faq.turn(first.next)) == ["d4", "d6", "d7", "d8"]


async def test_a_document_that_changes_while_it_is_ranked_is_not_on_the_first_page(faq: Searched) -> None:
    """The arms answer with version 1, and the ranking has looked at the log already."""
    read, looks = faq.documents.read, 0

    def change_after_ranking(docnos: object) -> object:
        nonlocal looks
        looks += 1
        if looks == 2:  # the first look is the ranking's, the second the page's
            faq.documents.put(1, {"text": "t1", "tag": "y"})
        return read(docnos)  # type: ignore[arg-type]

    faq.documents.read = change_after_ranking  # type: ignore[assignment,method-assign]
    assert ids(await faq.search(filter=TAGGED)) == ["d0", "d2", "d3", "d4"]


async def test_without_a_filter_a_change_hides_nothing(faq: Searched) -> None:
    first = await faq.search()
    faq.documents.put(5, {"text": "t5", "tag": "y"})
    assert ids(await faq.turn(first.next)) == ["d4", "d5", "d6", "d7"]


async def test_large_documents_make_a_smaller_page_and_are_not_lost(faq: Searched) -> None:
    first = await faq.search(max_bytes=2 * RENDERED_BYTES)
    assert ids(first) == ["d0", "d1"]
    assert first.next == ListPlace(first.place.key, 2)
    tiny = await faq.turn(first.next, max_bytes=1)
    assert ids(tiny) == ["d2"], "a page has one document at least"
    assert ids(await faq.turn(tiny.next)) == ["d3", "d4", "d5", "d6"]


async def test_the_order_is_explored_as_the_request_says_on_all_pages(faq: Searched) -> None:
    plain = [f"d{n}" for n in range(COUNT)]
    orders = []
    for _ in range(20):
        first = await faq.search(exploration=ALWAYS)
        order = await read_all(faq, first, exploration=ALWAYS)
        swapped = ALWAYS.draw_order(compute_seed(first.place.key), COUNT)
        assert order == [plain[place] for place in swapped]
        orders.append(order)
    assert any(order != plain for order in orders)  # all alike: with a probability under 2**-80


async def test_nothing_is_explored_unless_the_request_asks_for_it(faq: Searched) -> None:
    for _ in range(20):
        assert ids(await faq.search(size=COUNT)) == [f"d{n}" for n in range(COUNT)]


async def test_only_the_depth_that_is_asked_for_is_explored(faq: Searched) -> None:
    for _ in range(20):
        order = ids(await faq.search(size=COUNT, exploration=FairPairs(0.5, depth=2)))
        assert order[2:] == [f"d{n}" for n in range(2, COUNT)]


async def test_each_page_is_logged_as_it_was_given_out(faq: Searched) -> None:
    first = await faq.search(exploration=ALWAYS)
    second = await faq.turn(first.next, exploration=ALWAYS)
    assert [first.attribution_token, second.attribution_token] == ["token-1", "token-2"]
    for page, given in zip((first, second), faq.log.pages, strict=True):
        assert (given.collection, given.place) == (7, page.place)
        assert given.request.text == "words"
        assert (given.request.filter, given.request.context.user_id) == (b"raw filter", "u")
        assert given.request.exploration == ALWAYS
        assert given.documents is faq.documents
        assert [place for place, *_ in given.shown] == places(page.hits)
        assert [id for _, _, id, _ in given.shown] == ids(page)
        assert [r.docno for _, r, _, _ in given.shown] == [hit.document.docno for hit in page.hits]


async def test_the_log_gets_the_version_that_was_given_out(faq: Searched) -> None:
    first = await faq.search()
    faq.documents.put(4, {"text": "new", "tag": "x"}, version=5)
    await faq.turn(first.next)
    assert [version for *_, version in faq.log.pages[1].shown] == [5, 1, 1, 1]


async def test_the_log_can_tell_the_order_before_exploration(faq: Searched) -> None:
    first = await faq.search(exploration=ALWAYS)
    ranked = faq.log.pages[0].ranking.documents
    plain = undo_exploration(ranked)
    assert [r.id for r in plain] == [f"d{n}" for n in range(COUNT)]
    assert list(ranked) == list(explore(plain, ALWAYS, first.place.key))


async def test_an_unlogged_search_leaves_nothing_in_the_log(faq: Searched) -> None:
    first = await faq.search(unlogged=True)
    second = await faq.turn(first.next, unlogged=True)
    assert (first.attribution_token, second.attribution_token, faq.log.pages) == ("", "", [])


async def test_an_unlogged_search_is_explored_all_the_same(faq: Searched) -> None:
    orders = [ids(await faq.search(size=COUNT, exploration=ALWAYS, unlogged=True)) for _ in range(20)]
    assert any(order != orders[0] for order in orders)


async def test_later_pages_explain_what_the_first_one_did(faq: Searched) -> None:
    for explain in (True, False):
        first = await faq.search(explain=explain)
        second = await faq.turn(first.next, explain=explain)
        assert bool(second.hits[0].ranked.arms) is explain
        assert second.hits[0].ranked.score == pytest.approx(0.6)  # 6 of 10, as the arm has it


async def test_a_kept_list_takes_the_memory_that_it_is_counted_for(faq: Searched) -> None:
    for explain, entry in ((False, BARE_BYTES), (True, EXPLAINED_BYTES)):
        size = LIST_BYTES + len("words") + COUNT * entry
        for room, fits in ((size, True), (size - 1, False)):
            with searched(max_kept_bytes=room) as small:
                first = await small.search(explain=explain)
                if fits:
                    assert len((await small.turn(first.next, explain=explain)).hits) == 4
                else:
                    with pytest.raises(PageExpiredError):
                        await small.turn(first.next, explain=explain)


async def test_an_explained_hit_has_the_passage_that_was_compared(faq: Searched) -> None:
    faq.stack.arms = [FixedArm("dense", {1: 0.9, 2: 0.8})]
    found = faq.stack.searcher(faq.documents)
    assert found.first_stage.arms == ("dense",)
    page = await faq.search(explain=True)
    assert [hit.ranked.passage for hit in page.hits] == [0, 0]
    assert list(page.passages.values()) == ["first of t1", "first of t2"]
    assert (await faq.search()).passages == {}


async def test_rerankers_are_held_while_the_search_ranks_and_no_longer(faq: Searched) -> None:
    first = await faq.search()
    assert (faq.arm.held_when_asked, faq.held) == ([True], [])
    await faq.turn(first.next)
    assert faq.held == []


async def test_a_reranker_that_may_not_be_asked_for_ends_the_search(faq: Searched) -> None:
    faq.refusal = ModelNotFoundError("faq@9")
    with pytest.raises(ModelNotFoundError):
        await faq.search()
    assert (faq.arm.held_when_asked, faq.log.pages) == ([], [])


async def test_a_page_for_which_there_is_no_time_is_neither_given_nor_logged(faq: Searched) -> None:
    first = await faq.search()
    faq.log.pages.clear()
    past = Slot.make_single(Deadline.set_after(0.0))
    with pytest.raises(TimeoutError):
        await faq.service.turn_page(faq.collection, ListPlace(first.place.key, 4), asked(), past)
    assert faq.log.pages == []
