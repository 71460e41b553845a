"""Guards: which events of a user do not count, and why. They mark when the log is read, and change nothing.

A log that was read with one policy can be read again with another. An event belongs to its user, without one
to its session, without one to its search.
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


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """What is not believed to be a person's choice. Programs that say what they are (``simulated``) are
    exempt from the rules on haste.

    Attributes:
        choices_per_minute: more by one user within any 60 seconds are a BURST, all of them.
        choices_per_day: of one kind, by one user, for the same query and document, on one UTC day; the rest
            is CAPPED. On one page one counts.
        choices_per_pair: the same without the day, so that nobody has a large share of a document's clicks.
        bot_share: of the hits displayed to a user, clicked by it, from which the user is a BOT...
        bot_displayed: ... if so many were displayed.
        bot_haste_s: median time from answer to click under which the user is a BOT...
        bot_clicks: ... if there are so many clicks. Clicks before their answer are a wrong clock's, and are
            left out.
    """

    choices_per_minute: int = 30
    choices_per_day: int = 3
    choices_per_pair: int = 10
    bot_share: float = 0.9
    bot_displayed: int = 20
    bot_haste_s: float = 0.05
    bot_clicks: int = 5

    def __post_init__(self) -> None:
        counts = (self.choices_per_minute, self.choices_per_day, self.choices_per_pair, self.bot_clicks)
        if min(*counts, self.bot_displayed) < 1:
            raise ValueError("the guards' counts must be 1 or more")
        if not (0 < self.bot_share <= 1 and self.bot_haste_s >= 0):
            raise ValueError("bot_share must lie in (0, 1], bot_haste_s must not be negative")


@dataclass(frozen=True, slots=True)
class JoinedEvent:
    """An event with what its page says.

    Attributes:
        id: its row.
        page: row of the impression.
        query: of the page, as ``page_time_us``, ``hits`` (how many) and ``simulated``.
        shown: whether the page had the document; true for events without one.
        displayed: RENDERED: how many of the page's hits it names.
        others: the page was shown to another user.
    """

    id: int
    type: EventType
    document_id: str
    time_us: int
    page: int
    query: str
    page_time_us: int
    hits: int
    simulated: bool
    shown: bool
    displayed: int = 0
    others: bool = False


def marks_of(events: Sequence[JoinedEvent], hits: int, policy: GuardPolicy) -> dict[int, EventMark]:
    """Marks of those of one user's events that do not count, by row.

    Args:
        events: all of the user's, in order of time, ties by id.
        hits: on all pages that were shown to the user.
    """
    marks = {event.id: EventMark.NOT_SHOWN for event in events if not event.shown}
    left = [event for event in events if event.shown]
    people = [event for event in left if not event.simulated]
    if _is_bot(people, hits, policy):
        marks |= {event.id: EventMark.BOT for event in people}
    marks |= {id: EventMark.BURST for id in _bursts(people, policy) if id not in marks}
    marks |= dict.fromkeys(_capped((e for e in left if e.id not in marks), policy), EventMark.CAPPED)
    return marks


def _is_bot(events: Sequence[JoinedEvent], hits: int, policy: GuardPolicy) -> bool:
    clicks = [event for event in events if event.type is EventType.CLICK]
    delays = [e.time_us - e.page_time_us for e in clicks if e.time_us >= e.page_time_us]
    if len(delays) >= policy.bot_clicks and median(delays) < policy.bot_haste_s * 1_000_000:
        return True
    clicked = len({(event.page, event.document_id) for event in clicks})
    if clicked < policy.bot_share * policy.bot_displayed:
        return False
    displayed = _displayed(events, hits)
    return displayed >= policy.bot_displayed and clicked >= policy.bot_share * displayed


def _displayed(events: Sequence[JoinedEvent], hits: int) -> int:
    """Hits that the user saw: of a page with RENDERED events those that they name, else all."""
    sizes: dict[int, int] = {}
    named: Counter[int] = Counter()
    foreign: set[int] = set()
    for event in events:
        sizes[event.page] = event.hits
        if event.others:
            foreign.add(event.page)
        if event.type is EventType.RENDERED:
            named[event.page] += event.displayed
    hits += sum(sizes[page] for page in foreign)
    return hits - sum(sizes[page] - min(count, sizes[page]) for page, count in named.items())


def _bursts(events: Sequence[JoinedEvent], policy: GuardPolicy) -> set[int]:
    """Choices that lie in a minute with too many of them."""
    choices = [event for event in events if event.type in CHOICES]
    found: set[int] = set()
    start = 0
    for end, event in enumerate(choices):
        while event.time_us - choices[start].time_us >= MINUTE_US:
            start += 1
        if end - start + 1 > policy.choices_per_minute:
            found.update(choice.id for choice in choices[start : end + 1])
    return found


def _capped(events: Iterable[JoinedEvent], policy: GuardPolicy) -> list[int]:
    """Choices beyond what counts: once a page, so often a day, so often in all."""
    pages: set[tuple[int, str, EventType]] = set()
    days: Counter[tuple[str, str, EventType, int]] = Counter()
    pairs: Counter[tuple[str, str, EventType]] = Counter()
    capped: list[int] = []
    for event in events:
        if event.type not in CHOICES:
            continue
        page = (event.page, event.document_id, event.type)
        pair = (event.query, event.document_id, event.type)
        day = (*pair, event.time_us // DAY_US)
        often = days[day] >= policy.choices_per_day or pairs[pair] >= policy.choices_per_pair
        if page in pages or often:
            capped.append(event.id)
            continue
        pages.add(page)
        days[day] += 1
        pairs[pair] += 1
    return capped
