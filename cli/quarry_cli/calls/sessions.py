"""Sessions of users made by program: each searches once and clicks, through the public API."""

import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf import duration_pb2
from rich.progress import Progress

from quarry.client import Client
from quarry.v1 import feedback_service_pb2 as pb
from quarry.v1 import search_service_pb2
from quarry_cli.calls.runs import call_concurrently
from quarry_cli.connection import read_collection
from quarry_cli.failures import CliError
from quarry_cli.inputs.judgments import Qrels

if TYPE_CHECKING:
    from numpy.random import Generator

    from quarry.clicks.users import SimulatedClicks, UserBehaviour

CERTAIN_ATTRACTION = 0.9
"""Relevance of a document of the highest grade: even the right answer is overlooked at times."""
EVENTS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Simulation:
    """The settings of a simulation.

    Attributes:
        queries: ids and texts; every session searches one of them.
        intents: meanings that a query has; its relevant documents are divided among them.
        skew: of how often queries are asked; 0: all alike.
        swap: probability of exploration's swaps.
        run: names the users of one simulation, so that those of another are not taken for them.
    """

    collection: str
    queries: Sequence[tuple[str, str]]
    qrels: Qrels
    behaviour: "UserBehaviour"
    page_size: int = 10
    intents: int = 1
    skew: float = 1.0
    swap: float = 0.0
    seed: int = 0
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def make_generator(self, *numbers: int) -> "Generator":
        """Makes randomness that depends on the seed and these numbers alone, whatever runs beside it."""
        import numpy as np

        return np.random.default_rng([self.seed, *numbers])


@dataclass(frozen=True, slots=True)
class Visit:
    """The outcome of one session: whether each hit of the page was clicked, and whether the log took it."""

    query_id: str
    clicked: tuple[bool, ...]
    relevant: tuple[bool, ...]
    logged: bool


def run_sessions(quarry: Client, simulation: Simulation, sessions: int, bar: Progress) -> list[Visit]:
    """Runs one search and its events for each session."""
    read_collection(quarry, simulation.collection)
    task = bar.add_task("simulating", total=sessions)

    def visit(session: int) -> Visit:
        made = _visit(quarry, simulation, session)
        bar.advance(task)
        return made

    return call_concurrently(visit, range(sessions))


def _visit(quarry: Client, simulation: Simulation, session: int) -> Visit:
    random = simulation.make_generator(session)
    query_id, text = _choose_query(simulation, session)
    request = search_service_pb2.SearchRequest(
        collection=simulation.collection,
        query=text,
        page_size=simulation.page_size,
        return_fields=["-"],
        context=search_service_pb2.SearchContext(
            user_id=f"simulated-{simulation.run}-{session}",
            session_id=f"simulated-{simulation.run}-{session}",
            surface="simulation",
            simulated=True,
        ),
        exploration=search_service_pb2.Exploration(swap_probability=simulation.swap),
    )
    answer = quarry.search.Search(request)
    shown = [hit.document.id for hit in answer.hits]
    if not shown:
        return Visit(query_id, (), (), logged=False)
    grades = simulation.qrels[query_id]
    clicks = _simulate_clicks(simulation, query_id, shown, random)
    logged = bool(answer.attribution_token)
    if logged:
        _send(quarry, simulation.collection, make_events(answer, shown, clicks))
    return Visit(
        query_id,
        tuple(bool(clicked) for clicked in clicks.clicked[0]),
        tuple(grades.get(id, 0) > 0 for id in shown),
        logged,
    )


def _choose_query(simulation: Simulation, session: int) -> tuple[str, str]:
    """Chooses some again and again, most seldom: the k-th in a random order by ``1 / k ** skew``."""
    import numpy as np

    order = simulation.make_generator(1).permutation(len(simulation.queries))
    shares = np.arange(1.0, len(order) + 1) ** -simulation.skew
    place = simulation.make_generator(2, session).choice(len(order), p=shares / shares.sum())
    return simulation.queries[int(order[place])]


def _simulate_clicks(
    simulation: Simulation, query_id: str, shown: Sequence[str], random: "Generator"
) -> "SimulatedClicks":
    import numpy as np

    from quarry.clicks.users import simulate_page, spread_relevance

    grades = simulation.qrels[query_id]
    highest = max(1, *grades.values())
    relevance = np.array([CERTAIN_ATTRACTION * max(0, grades.get(id, 0)) / highest for id in shown])
    if simulation.intents > 1:
        intent = np.array([zlib.crc32(f"{query_id}/{id}".encode()) % simulation.intents for id in shown])
        relevance = spread_relevance(relevance, intent, simulation.intents)
    return simulate_page(relevance, simulation.behaviour, random)


def make_events(
    answer: search_service_pb2.SearchResponse, shown: Sequence[str], clicks: "SimulatedClicks"
) -> list[pb.Event]:
    """Makes the events that a front end would send: what was displayed, each choice, and how long it was
    read."""

    def make_event(name: str, type: pb.EventType.ValueType, document: str = "") -> pb.Event:
        id = f"{answer.search_id}-{name}"
        return pb.Event(
            event_id=id, type=type, document_id=document, attribution_token=answer.attribution_token
        )

    rendered = make_event("r", pb.EVENT_TYPE_RENDERED)
    rendered.rendered.extend(pb.RenderedHit(document_id=id) for id in shown)
    made = [rendered]
    for place, id in enumerate(shown):
        if clicks.clicked[0, place]:
            made.append(make_event(f"c{place}", pb.EVENT_TYPE_CLICK, id))
            read = make_event(f"v{place}", pb.EVENT_TYPE_VIEW, id)
            read.dwell.CopyFrom(duration_pb2.Duration(seconds=int(clicks.dwell_s[0, place])))
            made.append(read)
    return made


def _send(
    quarry: Client,
    collection: str,
    made: Sequence[pb.Event],
) -> None:
    """Raises CliError if the server refuses an event: a simulation that is half in the log misleads."""
    for start in range(0, len(made), EVENTS_AT_ONCE):
        some = made[start : start + EVENTS_AT_ONCE]
        request = pb.RecordEventsRequest(collection=collection, events=some)
        for status in quarry.feedback.RecordEvents(request).statuses:
            if status.status.code:
                raise CliError(f"the server refused an event: {status.status.message}")
