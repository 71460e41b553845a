"""Impressions and events as values, and the view of both that learning starts from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from quarry.search.logged_request import SearchContext


class EventType(StrEnum):
    RENDERED = "rendered"
    CLICK = "click"
    VIEW = "view"
    CONVERSION = "conversion"
    RATING = "rating"
    SKIP = "skip"
    COPY = "copy"
    OTHER = "other"


class EventMark(StrEnum):
    """The reason for which an event is kept and not counted."""

    COUNTED = "counted"
    ORPHAN = "orphan"
    NOT_SHOWN = "not_shown"
    CAPPED = "capped"
    BURST = "burst"
    BOT = "bot"
    TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class LoggedHit:
    """A document of an impression: one that was shown, or one of the pool it was chosen from.

    Attributes:
        document_id: its owner's id.
        version: of the document when it was ranked.
        rank: place in the order as given out, from 1; for the pool, place in the fused order.
        score: what it was ranked by.
        fused_score: before re-ranking.
        rerank_score: of a cascade, that of the last model that read it; None if it was not re-ranked.
        arms: by arm, its rank there (0: not returned) and raw score (None: unknown).
        content: hex hash of its text, by which the log keeps it; empty if it had changed before it was kept.
        rank_before: place before exploration; ``rank`` where nothing was explored.
        rank_probability: probability, under the logged policy, of the place that it was shown at, (0, 1].
        cascade_scores: by model of the impression's cascade, its score (None: it did not read the document).
    """

    document_id: str
    version: int
    rank: int
    score: float
    fused_score: float = 0.0
    rerank_score: float | None = None
    arms: Mapping[str, tuple[int, float | None]] = field(default_factory=dict)
    content: str = ""
    rank_before: int = 0
    rank_probability: float = 1.0
    cascade_scores: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Impression:
    """One page of an answered search, as it was given out.

    Attributes:
        search_id: shared by all pages of a search.
        offset: hits on the pages before.
        time_us: when it was answered, microseconds since 1970.
        filter: the request's filter, serialized; empty for none.
        shown: hits of the page, in the order given out.
        pool: the candidates that the ranking chose from, in fused order; empty on later pages and where it
            was not sampled.
        pool_rate: probability with which the pool is logged.
        policy: how the order was explored, such as ``none`` or ``fair-pairs``.
        seed: of the policy.
        configuration: hash of the arms, weights, fusion and re-ranking.
        reranker: model that re-ranked, of a cascade the last one; empty for none.
        depth: candidates that were re-ranked.
        degraded: what the answer was without, each ``stage:reason``.
        source: ``live`` or ``import``.
        cascade: of several models that re-ranked, all in the order in which they read; empty for one.
        tuned: name of the ranking configuration that merged the arms; empty for none.
        pinned: so many of the first ranks the request had given away: no click there says what a rank or a
            document deserves, and what learns leaves them out.
    """

    search_id: str
    offset: int
    time_us: int
    query: str
    context: SearchContext
    shown: tuple[LoggedHit, ...]
    generation: str = ""
    filter: bytes = b""
    pool: tuple[LoggedHit, ...] = ()
    pool_rate: float = 1.0
    policy: str = "none"
    seed: int = 0
    configuration: str = ""
    reranker: str = ""
    depth: int = 0
    degraded: tuple[str, ...] = ()
    source: str = "live"
    cascade: tuple[str, ...] = ()
    tuned: str = ""
    pinned: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a user saw or did.

    Attributes:
        event_id: unique in its collection.
        search_id: of the search it answers to; ``offset`` names the page.
        time_us: the client's clock; ``received_us`` is the server's.
        document_id: empty for RENDERED and some OTHER.
        rendered: of RENDERED: document and place on the screen (0: where the answer had it).
        dwell_us: of VIEW.
        value: of CONVERSION and RATING.
        user_id: empty: the search's. So is ``session_id``.
    """

    event_id: str
    type: EventType
    search_id: str
    offset: int
    time_us: int
    received_us: int
    document_id: str = ""
    rendered: tuple[tuple[str, int], ...] = ()
    dwell_us: int | None = None
    value: float | None = None
    user_id: str = ""
    session_id: str = ""
    action: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ObservedPage:
    """An impression with what became of it: marked events left out, the rest joined. Learning starts here.

    A page without hits is none, nor is one of which a guard has taken the only choice of a hit: that hit
    would look passed over.

    All tuples run over the page's hits, in the order in which the answer had them.

    Attributes:
        ranks: place of each hit from 1, pages counted together; where the screen had it, if RENDERED says so.
        displayed: whether it was on the screen; all true without a RENDERED event.
        rendered: whether a RENDERED event says so.
        clicked: whether it was chosen: CLICK, COPY, CONVERSION, a VIEW, or a RATING of 0.5 or more.
        refused: whether a SKIP, or a RATING under 0.5, says that it was seen and refused.
        ranks_before: places before exploration.
        rank_probabilities: of the places shown, under the logged policy.
        ranker: names what made the order: generation, configuration and re-ranker together.
    """

    search_id: str
    time_us: int
    query: str
    user_id: str
    session_id: str
    ranker: str
    simulated: bool
    documents: tuple[str, ...]
    contents: tuple[str, ...]
    ranks: tuple[int, ...]
    displayed: tuple[bool, ...]
    rendered: bool
    clicked: tuple[bool, ...]
    refused: tuple[bool, ...]
    ranks_before: tuple[int, ...]
    rank_probabilities: tuple[float, ...]
