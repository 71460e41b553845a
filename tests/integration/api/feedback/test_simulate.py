"""`quarry simulate` against a real server: what simulated users leave in the log."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.api.helpers.served import CALL_S, Api
from typer.testing import CliRunner

from quarry.v1 import feedback_service_pb2
from quarry_cli.main import app

SESSIONS = 60
WORDS = ("alder", "birch", "cedar")


@pytest.fixture
def judged(api: Api, lexical: str, tmp_path: Path) -> tuple[Path, Path]:
    """Three queries, of which each is answered by two of its ten hits."""
    api.upsert(lexical, {f"{word}{n}": {"text": f"{word} {'x ' * n}"} for word in WORDS for n in range(10)})
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    queries.write_text("".join(json.dumps({"_id": word, "text": word}) + "\n" for word in WORDS))
    lines = [f"{word}\t{word}{n}\t1" for word in WORDS for n in (0, 7)]
    qrels.write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    return queries, qrels


@pytest.fixture
def simulate(
    api: Api, lexical: str, judged: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    monkeypatch.setenv("QUARRY_SERVER", api.address)
    queries, qrels = map(str, judged)

    def run(*arguments: str) -> Any:
        command = ["simulate", lexical, "--queries", queries, "--qrels", qrels, "--json"]
        ended = CliRunner().invoke(app, [*command, "--sessions", str(SESSIONS), *arguments])
        assert ended.exit_code == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


def stats(api: Api, collection: str) -> feedback_service_pb2.GetFeedbackStatsResponse:
    request = feedback_service_pb2.GetFeedbackStatsRequest(collection=collection)
    return api.feedback.GetFeedbackStats(request, timeout=CALL_S)


def test_all_that_simulated_users_leave_is_in_the_log_and_called_simulated(
    api: Api, lexical: str, simulate: Callable[..., Any]
) -> None:
    said = simulate()
    assert said["simulated"] is True
    assert (said["sessions"], said["unlogged"]) == (SESSIONS, 0)
    logged = stats(api, lexical)
    assert (logged.impressions, logged.simulated_impressions) == (SESSIONS, SESSIONS)
    counted = {
        event.type: event.count
        for event in logged.events
        if event.mark == feedback_service_pb2.EVENT_MARK_UNSPECIFIED
    }
    assert counted[feedback_service_pb2.EVENT_TYPE_RENDERED] == SESSIONS
    assert counted[feedback_service_pb2.EVENT_TYPE_CLICK] == said["clicks"] > 0
    assert [(rank.displayed, rank.clicked) for rank in logged.ranks] == [
        (rank["shown"], rank["clicked"]) for rank in said["ranks"]
    ]


def test_the_same_seed_gives_the_same_clicks_and_another_gives_others(simulate: Callable[..., Any]) -> None:
    assert simulate("--seed", "3") == simulate("--seed", "3")
    assert simulate("--seed", "3")["ranks"] != simulate("--seed", "4")["ranks"]


def test_cascade_users_click_once_at_most(simulate: Callable[..., Any]) -> None:
    assert 0 < simulate("--users", "cascade")["clicks"] <= SESSIONS


def test_clicks_follow_relevance_where_position_does_not_matter(simulate: Callable[..., Any]) -> None:
    ranks = simulate("--eta", "0", "--noise", "0", "--trust", "0")["ranks"]
    clicked = [rank["rank"] for rank in ranks if rank["clicked"]]
    relevant = [rank["rank"] for rank in ranks if rank["relevant"]]
    assert set(clicked) <= set(relevant) and len(clicked) == 2


def test_swaps_are_asked_for_and_logged(api: Api, lexical: str, simulate: Callable[..., Any]) -> None:
    plain, swapped = (
        simulate("--eta", "0", "--noise", "0", "--trust", "0", "--swap", swap)["ranks"]
        for swap in ("0", "0.5")
    )
    assert sum(rank["relevant"] > 0 for rank in swapped) > sum(rank["relevant"] > 0 for rank in plain)
