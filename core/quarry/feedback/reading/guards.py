"""Guards: which events do not count, and why. They mark when the log is read, and change nothing.

A log that was read with one policy can be read again with another. Whose an event is (its *owner*)
``marking`` says; haste is judged owner by owner, and how often someone may choose query by query.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from quarry.feedback.types import EventMark, EventType

MINUTE_US = 60 * 1_000_000
DAY_US = 24 * 60 * MINUTE_US
CHOICES = frozenset({EventType.CLICK, EventType.VIEW, EventType.CONVERSION, EventType.RATING, EventType.COPY})
"""Events that can say that a hit was chosen."""
VERDICTS = CHOICES | {EventType.SKIP}
"""Events that say that a hit was chosen or refused. A page's about one hit are one choice, capped as one."""
LEAST_DISPLAYED = 3
"""Who clicks all of a page with fewer hits shows nothing of a program."""


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """The rules by which an event is not believed to be a person's choice. A choice is all that is said of
    one hit on one page, of whatever kind, refusals among them. Programs that say what they are
    (``simulated``) are exempt from the rules on haste.

    Attributes:
        choices_per_minute: more by one owner within any 60 seconds are a BURST, all of them.
        choices_per_day: of one owner, for the same query and document, on one UTC day; the rest is CAPPED.
        choices_per_pair: the same without the day.
        anonymous_per_pair: the same for all together whose searches name neither user nor session, since
            nothing tells them apart.
        owner_share: no owner has more choices of a query and document than this share of the choices, as
            capped so far, of that query by everybody; one is always left.
        bot_share: of the hits displayed to an owner, on pages with 3 or more of them, clicked by it, from
            which the owner is a BOT...
        bot_displayed: ... if so many were displayed.
        bot_haste_s: median time from answer to click under which the owner is a BOT...
        bot_clicks: ... if there are so many clicks. Clicks before their answer are a wrong clock's, and are
            left out.
    """

    choices_per_minute: int = 30
    choices_per_day: int = 1
    choices_per_pair: int = 3
    anonymous_per_pair: int = 3
    owner_share: float = 0.2
    bot_share: float = 0.9
    bot_displayed: int = 20
    bot_haste_s: float = 0.05
    bot_clicks: int = 5

    def __post_init__(self) -> None:
        counts = (self.choices_per_minute, self.choices_per_day, self.choices_per_pair, self.bot_clicks)
        if min(*counts, self.anonymous_per_pair, self.bot_displayed) < 1:
            raise ValueError("the guards' counts must be 1 or more")
        if not (0 < self.bot_share <= 1 and 0 < self.owner_share <= 1 and self.bot_haste_s >= 0):
            raise ValueError("shares must lie in (0, 1], bot_haste_s must not be negative")


@dataclass(frozen=True, slots=True)
class JoinedEvent:
    """An event with what its page says.

    Attributes:
        id: its row.
        page: row of the impression.
        page_time_us: of the page, as ``hits`` (how many) and ``simulated``.
        shown: whether the page had the document; true for events without one.
        displayed: RENDERED: how many of the page's hits it names.
        others: the page's hits are not among its owner's.
    """

    id: int
    type: EventType
    document_id: str
    time_us: int
    page: int
    page_time_us: int
    hits: int
    simulated: bool
    shown: bool
    displayed: int = 0
    others: bool = False


@dataclass(frozen=True, slots=True)
class OwnedChoice:
    """An event that chooses or refuses a hit, and who answers for it.

    Attributes:
        id: its row.
        page: row of the impression.
        owners: of its page and, if it names somebody else, of the event; each is capped.
        anonymous: its page names nobody.
    """

    id: int
    type: EventType
    document_id: str
    time_us: int
    page: int
    owners: tuple[str, ...]
    anonymous: bool = False


_Said = list[OwnedChoice]
"""What one page's events say of one hit."""


def mark_haste(events: Sequence[JoinedEvent], hits: int, policy: GuardPolicy) -> dict[int, EventMark]:
    """Marks one owner's events as NOT_SHOWN, BOT or BURST, by row.

    Args:
        events: all of the owner's, in order of time, ties by id.
        hits: on all pages with ``LEAST_DISPLAYED`` or more that were shown to the owner.
    """
    marks = {event.id: EventMark.NOT_SHOWN for event in events if not event.shown}
    people = [event for event in events if event.shown and not event.simulated]
    if _is_bot(people, hits, policy):
        marks |= {event.id: EventMark.BOT for event in people}
    return marks | {id: EventMark.BURST for id in _find_bursts(people, policy) if id not in marks}


def find_capped(choices: Iterable[OwnedChoice], policy: GuardPolicy) -> set[int]:
    """Finds rows of the choices of one query beyond what counts.

    First, in order of time, those beyond what each owner has a day and in all; then those beyond the owner's
    share of what is left. What one page says of one hit is one choice, with one event of each kind.

    Args:
        choices: all of the query that have no other mark, in order of time, ties by id.
    """
    repeated, said = _find_repeated(choices)
    ordered = sorted(said.values(), key=lambda events: (events[0].time_us, events[0].id))
    rest, over = _split_by_caps(ordered, policy)
    allowed = max(1, int(policy.owner_share * len(rest)))
    counts: Counter[tuple[str, str]] = Counter()
    for events in rest:
        pairs = _list_pairs(events)
        if any(counts[pair] >= allowed for pair in pairs):
            over.append(events)
        else:
            counts.update(pairs)
    return repeated | {event.id for events in over for event in events}


def _find_repeated(choices: Iterable[OwnedChoice]) -> tuple[set[int], dict[tuple[int, str], _Said]]:
    """Finds events that say again what one of their page has said, and the others by page and document."""
    repeated: set[int] = set()
    said: dict[tuple[int, str], _Said] = {}
    for choice in choices:
        events = said.setdefault((choice.page, choice.document_id), [])
        if any(event.type is choice.type for event in events):
            repeated.add(choice.id)
        else:
            events.append(choice)
    return repeated, said


def _split_by_caps(ordered: Iterable[_Said], policy: GuardPolicy) -> tuple[list[_Said], list[_Said]]:
    days: Counter[tuple[str, str, int]] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    within: list[_Said] = []
    over: list[_Said] = []
    for events in ordered:
        first = events[0]
        places = _list_pairs(events)
        daily = [(*place, first.time_us // DAY_US) for place in places]
        if first.anonymous:
            often = any(pairs[place] >= policy.anonymous_per_pair for place in places)
        else:
            often = any(pairs[place] >= policy.choices_per_pair for place in places)
            often |= any(days[day] >= policy.choices_per_day for day in daily)
        if often:
            over.append(events)
            continue
        within.append(events)
        pairs.update(places)
        days.update(daily)
    return within, over


def _list_pairs(events: _Said) -> list[tuple[str, str]]:
    """Lists pairs: whose choice it is and of which document: every owner must have one left."""
    return [(owner, events[0].document_id) for owner in {o for event in events for o in event.owners}]


def _is_bot(events: Sequence[JoinedEvent], hits: int, policy: GuardPolicy) -> bool:
    clicks = [event for event in events if event.type is EventType.CLICK]
    delays = [e.time_us - e.page_time_us for e in clicks if e.time_us >= e.page_time_us]
    if len(delays) >= policy.bot_clicks and median(delays) < policy.bot_haste_s * 1_000_000:
        return True
    if len(clicks) < policy.bot_share * policy.bot_displayed:
        return False
    sizes, displayed = _count_displayed(events, hits)
    clicked = {(e.page, e.document_id) for e in clicks if sizes[e.page] >= LEAST_DISPLAYED}
    return displayed >= policy.bot_displayed and len(clicked) >= policy.bot_share * displayed


def _count_displayed(events: Sequence[JoinedEvent], hits: int) -> tuple[dict[int, int], int]:
    """Counts how many hits each page with events displayed, and all pages with ``LEAST_DISPLAYED`` or more.

    Of a page with RENDERED events those hits that they name were displayed, otherwise all.
    """
    given: dict[int, int] = {}
    named: Counter[int] = Counter()
    foreign: set[int] = set()
    for event in events:
        given[event.page] = event.hits
        if event.others:
            foreign.add(event.page)
        if event.type is EventType.RENDERED:
            named[event.page] += event.displayed
    sizes = {page: min(named[page], size) if page in named else size for page, size in given.items()}
    for page, size in sizes.items():
        if page not in foreign:
            hits -= _count_hits(given[page])
        hits += _count_hits(size)
    return sizes, hits


def _count_hits(hits: int) -> int:
    return hits if hits >= LEAST_DISPLAYED else 0


def _find_bursts(events: Sequence[JoinedEvent], policy: GuardPolicy) -> set[int]:
    """Finds events that choose or refuse in a minute with too many choices."""
    verdicts = [event for event in events if event.type in VERDICTS]
    found: set[int] = set()
    within: Counter[tuple[int, str]] = Counter()
    start = marked = 0
    for end, event in enumerate(verdicts):
        within[event.page, event.document_id] += 1
        while event.time_us - verdicts[start].time_us >= MINUTE_US:
            gone = verdicts[start].page, verdicts[start].document_id
            within[gone] -= 1
            if not within[gone]:
                del within[gone]
            start += 1
        if len(within) > policy.choices_per_minute:
            found.update(choice.id for choice in verdicts[max(start, marked) : end + 1])
            marked = end + 1
    return found
