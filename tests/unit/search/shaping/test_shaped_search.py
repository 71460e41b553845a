"""Shaped searches through the whole use case: pages, totals, and what is logged."""

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.search.fakes import FixedArm, FixedDocuments, FixedScorer
from tests.unit.search.searched import ALWAYS, COUNT, TAGGED, Searched, asked, ids, searched, slot
from tests.unit.search.test_relevance import EVEN_AT_3

from quarry.errors import InvalidArgumentError, RetrieverUnavailableError, UnavailableError, WrongTypeError
from quarry.feedback.answers import ImpressionMaker
from quarry.filters import EqualTo
from quarry.ranking.queries import RerankPlan
from quarry.ranking.ranking import DegradationReason, NotPinned, ReachLimit
from quarry.ranking.score_scale import ScoreBasis
from quarry.ranking.shaping import Boost, Collapse, Diversity, Shaping
from quarry.search.exploration import compute_seed
from quarry.search.service import SearchPage
from quarry.search.shaping.pinning import find_hidden, read_named_documents
from quarry.types import Docno, Document, Fields

BEST = [f"d{n}" for n in range(COUNT)]


@pytest.fixture
def faq() -> Iterator[Searched]:
    with searched() as made:
        yield made


async def search(faq: Searched, text: str = "words", query: Any = None, **changes: Any) -> SearchPage[str]:
    """Searches, with what belongs to the shaping in it."""
    known = {"size", "exploration", "explain", "unlogged", "max_bytes"}
    shaping = Shaping(**{name: value for name, value in changes.items() if name not in known})
    page = asked(**{name: value for name, value in changes.items() if name in known})
    made = faq.stack.make_query(text, shaping=shaping, **(query or {}))
    return await faq.service.search(faq.collection, made, page, faq.hold(), slot())


async def read_pages(faq: Searched, first: SearchPage[str], **changes: Any) -> list[str]:
    found, page = ids(first), first
    while page.next is not None:
        if page.next.docno:
            query = replace(faq.stack.make_query(""), shaping=changes["shaping"])
            page = await faq.service.browse_on(faq.collection, query, page.next, asked(), slot())
        else:
            page = await faq.turn(page.next)
        found += ids(page)
    return found


async def test_pinned_documents_stand_on_top_in_their_order(faq: Searched) -> None:
    page = await search(faq, pinned=("d7", "d2"), size=5)
    assert ids(page) == ["d7", "d2", "d0", "d1", "d3"]
    assert [hit.ranked.shape.pinned for hit in page.hits] == [True, True, False, False, False]
    assert [page.ranking.scale(hit.ranked) for hit in page.hits][:3] == pytest.approx([0.3, 0.8, 1.0])
    assert page.ranking.total.count == COUNT


async def test_pages_of_any_size_follow_each_other(faq: Searched) -> None:
    shape = {"pinned": ("d7", "d2"), "excluded": frozenset({"d0", "d5"})}
    expected = ["d7", "d2", "d1", "d3", "d4", "d6", "d8", "d9"]
    for size in (1, 3, 100):
        page = await search(faq, size=size, **shape)
        assert await read_pages(faq, page) == expected
        assert page.ranking.reach.hits.count == 8


async def test_a_document_that_no_arm_found_is_pinned_without_a_score(faq: Searched) -> None:
    faq.documents.put(77, {"text": "other", "tag": "x"})
    page = await search(faq, pinned=("d77",))
    assert ids(page) == ["d77", "d0", "d1", "d2"]
    assert page.hits[0].ranked.scored_by is ScoreBasis.PINNED
    assert page.ranking.scale(page.hits[0].ranked) == 0.0
    assert page.ranking.reach.hits.count == COUNT + 1
    assert page.ranking.total.count == COUNT, "it matches no word"
    assert page.ranking.reach.found_by_meaning.count == COUNT, "nothing found it"


async def test_what_cannot_be_pinned_is_named(faq: Searched) -> None:
    faq.documents.put(3, {"text": "t3", "tag": "y"})
    page = await search(faq, pinned=("gone", "d3", "d5"), query={"filter": TAGGED})
    assert ids(page)[0] == "d5"
    assert page.ranking.not_pinned == {"gone": NotPinned.NOT_FOUND, "d3": NotPinned.FILTERED}
    assert page.ranking.pinned == 1


async def test_an_excluded_document_is_not_there(faq: Searched) -> None:
    page = await search(faq, excluded=frozenset({"d0", "d3", "nobody"}), size=100)
    assert ids(page) == [id for id in BEST if id not in ("d0", "d3")]
    assert page.ranking.reach.hits.count == COUNT - 2


async def test_as_many_candidates_as_are_hidden_are_asked_for_beside(faq: Searched) -> None:
    arms = tuple(replace(plan, depth=3) for plan in faq.stack.make_query().arms)
    page = await search(faq, excluded=frozenset({"d0", "d1"}), query={"arms": arms}, size=100)
    assert ids(page) == ["d2", "d3", "d4"]


async def test_hidden_documents_that_match_are_not_counted(faq: Searched) -> None:
    """BM25 counts them, and the total says how many of what may be shown match."""
    page = await search(faq, "t1", excluded=frozenset({"d1", "d2"}), query={"deepens": True})
    assert page.ranking.total.count == COUNT - 1, "of both, only d1 has the word"


async def test_a_later_page_brings_what_lies_below_but_nothing_hidden_or_pinned(faq: Searched) -> None:
    arms = tuple(replace(plan, depth=3) for plan in faq.stack.make_query().arms)
    shape = {"pinned": ("d8",), "excluded": frozenset({"d1", "d6"})}
    page = await search(faq, query={"arms": arms, "deepens": True}, size=2, **shape)
    assert page.ranking.rest is not None, "the whole list is not needed for it"
    assert await read_pages(faq, page) == ["d8", "d0", "d2", "d3", "d4", "d5", "d7", "d9"]


async def test_exploration_leaves_pinned_hits_alone_and_says_so(faq: Searched) -> None:
    moved = 0
    for _ in range(20):
        page = await search(faq, pinned=("d9", "d8"), exploration=ALWAYS, size=COUNT)
        assert ids(page)[:2] == ["d9", "d8"]
        order = (0, 1, *(2 + n for n in ALWAYS.draw_order(compute_seed(page.place.key), COUNT - 2)))
        best = ["d9", "d8", *BEST[:8]]
        assert ids(page) == [best[place] for place in order]
        moved += ids(page) != best
        made = ImpressionMaker(faq.log.pages[-1], 0, 50, 1.0).make_impression(lambda docno, version: "")
        assert made.pinned == 2
        assert [hit.rank_before for hit in made.shown] == [place + 1 for place in order]
        assert [hit.rank_probability for hit in made.shown][:2] == [1.0, 1.0]
        assert all(0 < hit.rank_probability < 1 for hit in made.shown[2:])
        assert len(made.pool) == COUNT
    assert moved > 10


async def test_browsing_begins_with_what_is_pinned(faq: Searched) -> None:
    shaping = Shaping(pinned=("d7", "d2", "gone"), excluded=frozenset({"d0"}))
    for size in (1, 3, 100):
        page = await search(faq, "", pinned=shaping.pinned, excluded=shaping.excluded, size=size)
        found = await read_pages(faq, page, shaping=shaping)
        assert found == ["d7", "d2", "d1", "d3", "d4", "d5", "d6", "d8", "d9"]
        assert (page.ranking.total.count, page.ranking.reach.hits.count) == (9, 9)


async def test_browsing_goes_on_behind_a_piece_of_the_list(faq: Searched, monkeypatch: Any) -> None:
    monkeypatch.setattr("quarry.search.service.BROWSED_AT_ONCE", 2)
    shaping = Shaping(pinned=("d7",), excluded=frozenset({"d1", "d2", "d3"}))
    page = await search(faq, "", pinned=shaping.pinned, excluded=shaping.excluded, size=2)
    assert await read_pages(faq, page, shaping=shaping) == ["d7", "d0", "d4", "d5", "d6", "d8", "d9"]


async def test_groups_count_what_they_hide(faq: Searched) -> None:
    for number in range(COUNT):
        faq.documents.put(number, {"text": f"t{number}", "tag": "even" if number % 2 == 0 else "odd"})
    page = await search(faq, collapse=Collapse("tag", members=2))
    assert ids(page) == ["d0", "d1"]
    assert [hit.ranked.shape.others for hit in page.hits] == [4, 4]
    assert [[text for _, text in hit.members] for hit in page.hits] == [
        ["<d2 v2>", "<d4 v2>"],
        ["<d3 v2>", "<d5 v2>"],
    ]
    assert (page.ranking.reach.hits.count, page.ranking.total.count) == (2, COUNT)


async def test_members_that_are_gone_by_now_are_left_out(faq: Searched) -> None:
    for number in range(COUNT):
        faq.documents.put(number, {"text": "t", "tag": str(number // 2)})
    first = await search(faq, collapse=Collapse("tag", members=2), size=2)
    faq.documents.remove(5)
    second = await faq.turn(first.next, size=2)
    assert ids(second) == ["d4", "d6"]
    assert [[text for _, text in hit.members] for hit in second.hits] == [[], ["<d7 v2>"]]


async def test_members_take_room_on_a_page(faq: Searched) -> None:
    page = await search(faq, collapse=Collapse("tag", members=9), size=2, max_bytes=150)
    assert ids(page) == ["d0"]
    assert len(page.hits[0].members) == 9


async def test_a_group_needs_one_value(faq: Searched) -> None:
    faq.documents.put(4, {"text": "t4", "tag": ["x", "y"]})
    with pytest.raises(WrongTypeError, match="'d4' has 2 values"):
        await search(faq, collapse=Collapse("tag"))


async def test_boosts_hold_over_pages_without_explanations(faq: Searched) -> None:
    faq.documents.put(8, {"text": "t8", "tag": "y"})
    boost = Boost(EqualTo("tag", "y"), 10.0)
    page = await search(faq, boosts=(boost,), size=3)
    second = await faq.turn(page.next, size=3)
    assert ids(page) + ids(second) == ["d8", "d0", "d1", "d2", "d3", "d4"]
    scores = [p.ranking.scale(hit.ranked) for p in (page, second) for hit in p.hits]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


async def test_pins_go_before_groups_and_boosts(faq: Searched) -> None:
    page = await search(faq, pinned=("d9",), collapse=Collapse("tag"), boosts=(Boost(TAGGED, 1.0),))
    assert ids(page) == ["d9"], "all are of its group"
    (head,) = page.hits
    assert [head.ranked.shape.boosts[0].effect, page.ranking.scale(head.ranked)] == pytest.approx([2.0, 0.1])
    assert (head.ranked.shape.others, page.ranking.reach.hits.count) == (COUNT - 1, 1)


async def test_a_pinned_document_stands_for_its_group_and_is_shown_once(faq: Searched) -> None:
    for number, brand in enumerate("aabbc"):
        faq.documents.put(number, {"text": f"t{number}", "tag": brand})
    faq.documents.put(77, {"text": "other", "tag": "c"})
    collapse = Collapse("tag", members=2)
    page = await search(faq, pinned=("d1", "d77"), collapse=collapse, size=100)
    assert ids(page) == ["d1", "d77", "d2", "d5"]
    shapes = [hit.ranked.shape for hit in page.hits]
    assert [[member.id for member in shape.members] for shape in shapes] == [
        ["d0"],
        ["d4"],
        ["d3"],
        ["d6", "d7"],
    ]
    assert [shape.others for shape in shapes] == [1, 1, 1, 4]
    assert [hit.ranked.scored_by for hit in page.hits][:2] == [ScoreBasis.FUSED, ScoreBasis.PINNED]
    assert page.ranking.scale(page.hits[0].ranked) == pytest.approx(0.9)
    assert page.ranking.reach.hits.count == 4
    both = await search(faq, pinned=("d1", "d0"), collapse=collapse, size=100)
    assert ids(both) == ["d1", "d0", "d2", "d4", "d5"], "whoever pins two of a group gets both"


async def test_bm25_failing_below_is_said_and_the_rest_is_given(faq: Searched) -> None:
    class FailsLater(FixedArm):
        async def retrieve(self, text: str, depth: int, *arguments: Any, **named: Any) -> Any:
            if depth > 900:
                raise RetrieverUnavailableError("bm25", "gone")
            return await super().retrieve(text, depth, *arguments, **named)

    faq.stack.arms = [FailsLater("bm25", {n: float(COUNT - n) for n in range(COUNT)})]
    arms = tuple(replace(plan, depth=3) for plan in faq.stack.make_query().arms)
    shape = {"pinned": ("d2",), "collapse": Collapse("text")}
    page = await search(faq, query={"arms": arms, "deepens": True}, size=100, **shape)
    assert ids(page) == ["d2", "d0", "d1"]
    (note,) = page.ranking.degraded
    assert note.detail.startswith("what bm25 finds beyond its depth is missing: the bm25 arm is unavailable")
    assert page.ranking.reach.limit is ReachLimit.DEGRADED


async def test_without_the_vectors_the_order_stays_and_the_answer_says_so(faq: Searched) -> None:
    scores = {n: 1.0 - n / 10 for n in range(COUNT)}
    faq.stack.arms = [FixedArm("dense", scores)]
    page = await search(faq, diversity=Diversity(0.1), size=100)
    assert ids(page) == BEST
    (note,) = page.ranking.degraded
    assert (note.arm, note.reason) == ("dense", DegradationReason.UNAVAILABLE)
    with pytest.raises(UnavailableError, match="vectors of dense"):
        await search(faq, diversity=Diversity(0.1), query={"require_complete": True})


async def test_a_pinned_hit_needs_no_relevance_and_does_not_count_as_relevant(faq: Searched) -> None:
    faq.stack.scorer = FixedScorer(calibration=EVEN_AT_3)
    plan = RerankPlan("model", depth=3, min_relevance=0.1)
    page = await search(faq, pinned=("d7",), query={"rerank": plan}, size=100)
    assert ids(page) == ["d7", "d0", "d1", "d2"]
    assert (page.ranking.total.count, page.ranking.reach.hits.count) == (3, 4)
    assert page.hits[0].ranked.relevance is None


class CountedReads(FixedDocuments):
    """Keeps how many documents each call reads with their fields."""

    def __init__(self, documents: dict[int, Fields]) -> None:
        super().__init__(documents)
        self.read_at_once: list[int] = []

    def read(self, docnos: Collection[Docno]) -> dict[Docno, Document]:
        self.read_at_once.append(len(docnos))
        return super().read(docnos)


def test_named_documents_are_read_only_for_a_filter_and_some_at_a_time() -> None:
    documents = CountedReads({n: {"tag": "x" if n % 2 else "y"} for n in range(250)})
    shaping = Shaping(pinned=("d3", "d2", "gone"), excluded=frozenset(f"d{n}" for n in range(10, 250)))
    named = read_named_documents(documents, shaping, None)
    assert [(d.id, d.docno, d.version) for d in named.pinned] == [("d3", 3, 1), ("d2", 2, 1)]
    assert named.hidden == named.passing == set(range(10, 250))
    assert find_hidden(documents, shaping) == named.hidden
    assert documents.read_at_once == []
    named = read_named_documents(documents, shaping, TAGGED)
    assert [d.id for d in named.pinned] == ["d3"]
    assert named.not_pinned == {"d2": NotPinned.FILTERED, "gone": NotPinned.NOT_FOUND}
    assert (named.hidden, named.passing) == (set(range(10, 250)), set(range(11, 250, 2)))
    assert documents.read_at_once == [100, 100, 42]


async def test_without_a_shape_nothing_is_read_by_name(faq: Searched) -> None:
    def fail(ids: object) -> Any:
        raise AssertionError("nobody named a document")

    faq.documents.find_docnos = fail  # type: ignore[method-assign]
    page = await faq.search()
    assert not page.ranking.shaped


def test_a_hash_of_a_configuration_knows_what_orders_and_not_what_is_named(faq: Searched) -> None:
    plain = faq.stack.make_query()
    hashes = {
        shaping: replace(plain, shaping=shaping).hash_configuration()
        for shaping in (
            Shaping(),
            Shaping(pinned=("a",), excluded=frozenset({"b"})),
            Shaping(collapse=Collapse("tag")),
            Shaping(boosts=(Boost(TAGGED, 1.0),)),
            Shaping(boosts=(Boost(TAGGED, 2.0),)),
            Shaping(like="a"),
        )
    }
    plain_ones = [made for made in hashes.values() if made == plain.hash_configuration()]
    assert (len(plain_ones), len(set(hashes.values()))) == (2, 5)


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        ({"pinned": tuple(map(str, range(10_000)))}, "pinned_ids"),
        ({"excluded": frozenset(map(str, range(1_001)))}, "exclude_ids"),
        ({"pinned": ("a", "b", "a")}, "pinned_ids[2]"),
        ({"pinned": ("a",), "excluded": frozenset({"a"})}, "pinned_ids[0]"),
        ({"pinned": ("a",), "like": "a"}, "pinned_ids[0]"),
        ({"pinned": ("",)}, "pinned_ids[0]"),
        ({"excluded": frozenset({"x\x00"})}, "exclude_ids"),
        ({"like": "x" * 600}, "more_like"),
        ({"boosts": (Boost(TAGGED, 1.0),) * 33}, "boosts"),
    ],
)
def test_a_wrong_shape_is_named(shape: Any, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Shaping(**shape)
    assert caught.value.field == field


async def test_searches_do_not_share_what_they_hide(faq: Searched) -> None:
    hidden, plain = await asyncio.gather(search(faq, excluded=frozenset({"d0"})), faq.search())
    assert (ids(hidden)[0], ids(plain)[0]) == ("d1", "d0")
