"""One client makes nearly a third of all events to push one document: the loop does not learn it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import mean

import orjson
import pytest
from tests.integration.api.helpers.feedback import CLICK, RENDERED, VIEW, record, stats
from tests.integration.api.helpers.looped import TURN_S, Loop
from tests.integration.api.helpers.mining import Mining, judged
from tests.integration.api.helpers.served import Api, served, tiny_settings
from tests.integration.api.helpers.training import Training

from quarry.config import DEFAULT_ENCODER
from quarry.questions import make_question_key
from quarry.v1 import feedback_service_pb2
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry_cli.calls.sessions import Simulation, run_sessions
from quarry_cli.commands.simulate import make_simulated_users
from quarry_cli.connection import connect
from quarry_cli.console import make_progress
from quarry_cli.inputs.judgments import read_qrels
from quarry_cli.inputs.sample import find_sample
from quarry_cli.inputs.topics import read_queries

SESSIONS = 300
POISON = 0.3
"""Share of all events that are the client's."""
DEPTH = 50
ATTACKED = 40
AT_ONCE = 100
"""Documents that are encoded within one call's deadline, on a busy machine too."""
JUDGED = 48
STEPS = 30
COMMON = 10
"""A document has a rise if so many attacked queries find it."""
FEW, MANY = 0.05, 0.1
"""Shares of the other documents that rise more than the pushed one. Where the push was learned it was 0, in
four trainings that did not learn it 0.3 to 0.4."""
CLIENT = "one-client"
KINDS = (RENDERED, CLICK, VIEW)
"""What the client sends of each of its searches."""


@dataclass(frozen=True)
class Attack:
    """The document that is pushed, queries that do not ask for it, by id, and how often it was clicked."""

    document: str
    queries: Mapping[str, str]
    clicks: int


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The shipped sample with its encoder, on a server that makes what is improved serve."""
    data = tmp_path_factory.mktemp("poisoned")
    training = {"promotion": "when_improved"}
    with served(tiny_settings(data, Path(DEFAULT_ENCODER), training=training)) as api:
        api.create("sample")
        lines = find_sample().corpus.read_bytes().splitlines()
        documents = [(one.pop("_id"), one) for one in map(orjson.loads, lines)]
        for start in range(0, len(documents), AT_ONCE):
            api.upsert("sample", dict(documents[start : start + AT_ONCE]))
        yield api


@pytest.fixture(scope="module")
def attack(api: Api) -> Attack:
    """Simulated users click on what they need; then the client searches for what others ask, and clicks."""
    sample = find_sample()
    needs = read_qrels(sample.needs)
    texts = read_queries(sample.queries, set(needs))
    simulation = Simulation(
        "sample", list(texts.items()), needs, make_simulated_users(noise=0.02), swap=0.2, seed=3, run="people"
    )
    with connect(api.address, 60.0) as quarry, make_progress() as bar:
        visits = run_sessions(quarry, simulation, SESSIONS, bar)
    asked = list(dict.fromkeys(visit.query_id for visit in visits))
    document = _seen_most(api, {id: texts[id] for id in asked[:100]})
    unrelated = {id: texts[id] for id in asked if not needs[id].get(document)}
    clicks = round(POISON / (1 - POISON) * events_of(api) / len(KINDS))
    attacked: dict[str, str] = {}
    made = 0
    for number in range(10 * clicks):
        if made == clicks:
            break
        names = list(attacked) if len(attacked) == ATTACKED else list(unrelated)
        id = names[number % len(names)]
        if _pushed(api, unrelated[id], document, number):
            attacked[id] = unrelated[id]
            made += 1
    assert made == clicks
    return Attack(document, attacked, made)


def _seen_most(api: Api, queries: Mapping[str, str]) -> str:
    """The document that most queries could show on a deep page, and that none has among its best."""
    counts: dict[str, int] = {}
    for text in queries.values():
        for hit in api.search("sample", text, page_size=DEPTH, unlogged=True).hits[5:]:
            counts[hit.document.id] = counts.get(hit.document.id, 0) + 1
    return max(counts, key=lambda id: (counts[id], id))


def _pushed(api: Api, text: str, document: str, number: int, user: str = CLIENT) -> bool:
    """Whether ``user`` could click on the document; it says that it is a program, which hides its haste."""
    context = {"user_id": user, "session_id": f"{user}-{number}", "simulated": True}
    probe = api.search("sample", text, page_size=DEPTH, unlogged=True)
    if document not in [hit.document.id for hit in probe.hits]:
        return False
    answer = api.search("sample", text, page_size=DEPTH, context=context)
    events = [
        feedback_service_pb2.Event(
            event_id=f"push-{user}-{number}-{kind}",
            type=kind,
            document_id=document if kind != RENDERED else "",
            rendered=[feedback_service_pb2.RenderedHit(document_id=document)] if kind == RENDERED else (),
            attribution_token=answer.attribution_token,
        )
        for kind in KINDS
    ]
    assert not any(status.status.code for status in record(api, "sample", *events))
    return True


def events_of(api: Api, *kinds: int) -> int:
    """How many the log holds, of some kinds or of all, whether they count or not."""
    return sum(event.count for event in stats(api, "sample").events if not kinds or event.type in kinds)


def read_rankings(api: Api, attack: Attack, model: str = "") -> list[dict[str, int]]:
    """Of each attacked query: the rank of each document that it finds, in fused order or the model's."""
    rerank = {"model": model} if model else {"disabled": True}
    return [
        {
            hit.document.id: hit.rank
            for hit in api.search(
                "sample", text, page_size=DEPTH, unlogged=True, rerank=rerank, require_complete=True
            ).hits
        }
        for text in attack.queries.values()
    ]


def count_raised_more(api: Api, attack: Attack, model: str) -> float:
    """The share of all other documents of these lists that the model raises more than the pushed one.

    A rise is the mean logarithm of the rank before over the rank after. What happens to the others is what
    another order does by itself, however much it moves.
    """
    found: dict[str, list[float]] = {}
    for before, after in zip(read_rankings(api, attack), read_rankings(api, attack, model), strict=True):
        for id, rank in before.items():
            found.setdefault(id, []).append(log(rank / after.get(id, DEPTH + 1)))
    rises = {id: mean(all) for id, all in found.items() if len(all) >= COMMON}
    pushed = rises.pop(attack.document)
    return mean(rise > pushed for rise in rises.values())


def mined(api: Api, preset: str = "random", negatives: int = 1) -> str:
    """A mining set of all feedback; which preset it is makes no difference to the positives."""
    feedback = mining_pb.FeedbackPositives()
    return Mining(api).mined("sample", feedback=feedback, preset=preset, negatives=negatives).name


def taught(api: Api, mining_set: str, attack: Attack) -> set[str]:
    """Attacked queries for which the set has the document as an answer; clicked queries are folded."""
    rows = Mining(api).examples(mining_set).to_pylist()
    learned = {make_question_key(row["query"]) for row in rows if row["positive_id"] == attack.document}
    return learned & {make_question_key(text) for text in attack.queries.values()}


@pytest.mark.timeout(900)  # jobs are niced: on a busy machine they wait for whatever else runs
def test_a_client_that_makes_nearly_a_third_of_all_events_pushes_nothing(api: Api, attack: Attack) -> None:
    assert len(KINDS) * attack.clicks / events_of(api) == pytest.approx(POISON, abs=0.01)
    sample = find_sample()
    qrels = read_qrels(sample.qrels)
    chosen = dict(sorted(qrels.items())[:: len(qrels) // JUDGED])
    texts = read_queries(sample.queries, set(chosen))
    judgments = judged({id: (texts[id], grades) for id, grades in chosen.items()})
    report = Loop(api).turned("sample", force=True, steps=STEPS, max_tokens=64, seed=1, judgments=judgments)
    assert report.simulated
    honest = events_of(api, CLICK) - attack.clicks
    assert report.new_choices < honest + 0.2 * attack.clicks  # the client's hardly count

    assert not taught(api, report.mining_set, attack)

    # It learned nothing of the push: many other documents rise more.
    assert count_raised_more(api, attack, report.model) > MANY


@pytest.mark.timeout(900)
def test_the_same_clicks_push_the_document_when_many_people_make_them(api: Api, attack: Attack) -> None:
    """The control: these queries, this document and as many clicks, and only that no one owner makes them."""
    assert not taught(api, mined(api), attack)
    queries = list(attack.queries.values())
    for number in range(attack.clicks):
        text, user = queries[number % len(queries)], f"one-of-many-{number}"
        assert _pushed(api, text, attack.document, number, user)
    stats(api, "sample")  # waits until all is written
    poisoned = mined(api, "quarry", 7)
    assert len(taught(api, poisoned, attack)) > ATTACKED / 2
    training = Training(api)
    started = training.start("sample", mining_set=poisoned, steps=10 * STEPS, max_tokens=64, seed=1)
    model = training.made(training.wait(started, TURN_S))
    assert count_raised_more(api, attack, model.name) < FEW
