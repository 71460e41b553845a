"""Hits, impressions and events survive being stored."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from quarry.feedback.hits import pack_hits, unpack_contents, unpack_hits, unpack_ids
from quarry.feedback.rows import (
    EVENT_COLUMNS,
    IMPRESSION_COLUMNS,
    make_event_row,
    make_impression_row,
    read_event,
    read_impression,
)
from quarry.feedback.types import Event, EventType, Impression, LoggedHit
from quarry.search.logged_request import SearchContext

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=20)
arms = st.dictionaries(
    st.sampled_from(["bm25", "dense"]), st.tuples(st.integers(0, 1_000), st.none() | finite)
)


def logged_hits(stages: int = 0) -> st.SearchStrategy[LoggedHit]:
    """Hits of one impression, in which so many re-rankers read one after another."""
    return st.builds(
        LoggedHit,
        document_id=st.text(min_size=1, max_size=12),
        version=st.integers(0, 2**53),
        rank=st.integers(1, 2_000),
        score=finite,
        fused_score=finite,
        rerank_score=st.none() | finite,
        arms=arms,
        content=st.just("") | st.binary(min_size=16, max_size=16).filter(any).map(bytes.hex),
        rank_before=st.integers(1, 2_000),
        rank_probability=st.floats(0.001, 1),
        cascade_scores=st.tuples(*[st.none() | finite] * stages),
    )


hits = logged_hits()
contexts = st.builds(
    SearchContext, texts, texts, texts, texts, st.dictionaries(texts, texts, max_size=3), st.booleans()
)
impressions = st.builds(
    Impression,
    search_id=st.uuids().map(lambda id: id.hex),
    offset=st.integers(0, 1_000),
    time_us=st.integers(0, 2**53),
    query=texts,
    context=contexts,
    shown=st.lists(hits, max_size=4).map(tuple),
    generation=texts,
    filter=st.binary(max_size=20),
    pool=st.lists(hits, max_size=4).map(tuple),
    pool_rate=st.floats(0, 1),
    policy=texts,
    seed=st.integers(0, 2**63 - 1),
    configuration=texts,
    reranker=texts,
    depth=st.integers(0, 1_000),
    degraded=st.lists(texts, max_size=2).map(tuple),
    source=st.sampled_from(["live", "import"]),
    cascade=st.lists(texts, max_size=3).map(tuple),
)
events = st.builds(
    Event,
    event_id=texts,
    type=st.sampled_from(list(EventType)),
    search_id=texts,
    offset=st.integers(0, 1_000),
    time_us=st.integers(0, 2**53),
    received_us=st.integers(0, 2**53),
    document_id=texts,
    rendered=st.lists(st.tuples(texts, st.integers(0, 100)), max_size=3).map(tuple),
    dwell_us=st.none() | st.integers(0, 10**9),
    value=st.none() | finite,
    user_id=texts,
    session_id=texts,
    action=texts,
    attributes=st.dictionaries(texts, texts, max_size=3),
)


@given(st.integers(0, 3).flatmap(lambda stages: st.lists(logged_hits(stages), max_size=8)))
def test_packed_hits_unpack_to_the_same(some: list[LoggedHit]) -> None:
    packed = pack_hits(some)
    assert unpack_hits(packed) == tuple(some)
    assert unpack_ids(packed) == [hit.document_id for hit in some]
    assert [content.hex() for content in unpack_contents(packed)] == [h.content for h in some if h.content]


@given(impressions)
def test_an_impression_comes_back_from_its_row(impression: Impression) -> None:
    row = dict(zip(IMPRESSION_COLUMNS, make_impression_row(7, impression, 8), strict=True))
    assert (row["collection_id"], row["received_us"], row["hits"]) == (7, 8, len(impression.shown))
    assert read_impression(SimpleNamespace(**row)) == impression


@given(events)
def test_an_event_comes_back_from_its_row(event: Event) -> None:
    row = dict(zip(EVENT_COLUMNS, make_event_row(7, event), strict=True))
    assert read_event(SimpleNamespace(**row)) == event


def test_a_page_of_ten_takes_less_than_a_kilobyte() -> None:
    some = [LoggedHit(f"document-{n}", n, n, 1 / n, content=bytes([n] * 16).hex()) for n in range(1, 11)]
    assert len(pack_hits(some)) < 1_000
