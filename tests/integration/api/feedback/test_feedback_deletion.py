"""Feedback is deleted by user, by time, by age and with its collection, and everything made of it."""

import contextlib
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from google.longrunning import operations_pb2
from tests.integration.api.helpers.corpus import WORDS
from tests.integration.api.helpers.feedback import (
    QUERY,
    click,
    filled,
    logged,
    record,
    stats,
    waited,
)
from tests.integration.api.helpers.mining import JOB_S, Mining, judged
from tests.integration.api.helpers.served import CALL_S, Api, refused

from quarry.feedback.reading.observed_pages import read_observed_pages, read_texts
from quarry.feedback.tables import events, impressions, read_feedback, texts
from quarry.v1 import collection_service_pb2, mining_service_pb2
from quarry.v1 import feedback_service_pb2 as pb


def test_feedback_goes_with_its_collection(new_server: Any, folder: Path) -> None:
    with new_server() as api:
        answer = api.search(filled(api), QUERY)
        record(api, "own", click(answer))
        api.search(filled(api, "other"), QUERY)
        stats(api, "own")
        api.collections.DeleteCollection(
            collection_service_pb2.DeleteCollectionRequest(name="own"), timeout=CALL_S
        )
        assert stats(api, "other").impressions == 1
    engine = read_feedback(folder / "feedback.db")
    with engine.connect() as connection:
        for table in (impressions, events, texts):
            rows = connection.execute(sa.select(table.c.collection_id).distinct()).all()
            assert {key for (key,) in rows} <= {2}
    engine.dispose()


def purged(api: Api, **condition: Any) -> pb.PurgeFeedbackResponse:
    operation = api.feedback.PurgeFeedback(pb.PurgeFeedbackRequest(**condition), timeout=CALL_S)
    return waited(api, operation, pb.PurgeFeedbackResponse())


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("feedback.db*")))


def test_a_purge_takes_a_users_data_out_of_the_files(new_server: Any, folder: Path) -> None:
    secret, words = "user-5f3a9c", "confidentialquery"
    with new_server() as api:
        filled(api)
        for n in range(120):
            user = secret if n % 3 == 0 else f"someone-{n}"
            query = f"{QUERY} {words if n % 3 == 0 else 'other'} {n}"
            answer = api.search("own", query, context={"user_id": user})
            comment = {"comment": f"{secret} said"} if n % 3 == 0 else {}
            assert record(api, "own", click(answer, attributes=comment))[0].status.code == 0
        foreign = click(api.search("own", QUERY, context={"user_id": "host"}), user_id=secret)
        record(api, "own", foreign)
        assert stats(api, "own").impressions == 121
        assert secret.encode() in on_disk(folder)
        assert words.encode() in on_disk(folder)
        found = purged(api, collection="own", user_id=secret)
        assert (found.impressions, found.events) == (40, 41)
        assert secret.encode() not in on_disk(folder)
        assert words.encode() not in on_disk(folder)
        after = stats(api, "own")
        assert (after.impressions, sum(one.count for one in after.events)) == (81, 80)
    pages = list(read_observed_pages(folder / "feedback.db", 1))
    assert all(
        read_texts(folder / "feedback.db", page.contents).keys() == set(page.contents) for page in pages
    )


def test_a_purge_by_time_takes_texts_that_nothing_refers_to(new_server: Any) -> None:
    with new_server() as api:
        api.create("own", encoder="none")
        api.upsert("own", {"a": {"text": "apples"}, "b": {"text": "berries"}})
        api.search("own", "apples")
        between = stats(api, "own").last_time
        between.nanos = 0
        between.seconds += 1
        assert stats(api, "own").texts == 1
        request = {"collection": "own", "end_time": between}
        found = purged(api, **request)
        assert (found.impressions, found.texts) == (1, 1)
        api.search("own", "apples")
        assert stats(api, "own").texts == 1  # kept anew, though it was known before
        assert purged(api, collection="own", start_time=between, end_time={"seconds": 4_000_000_000}) in (
            pb.PurgeFeedbackResponse(),
            pb.PurgeFeedbackResponse(impressions=1, texts=1),
        )


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        ({}, "user_id"),
        ({"user_id": "x" * 129}, "user_id"),
        ({"start_time": {"seconds": 1_600_000_000}, "end_time": {"seconds": 1_600_000_000}}, "end_time"),
        ({"start_time": {"seconds": -1}}, "start_time"),
    ],
)
def test_a_purge_that_chooses_nothing_or_nonsense_is_refused(
    api: Api, corpus: str, condition: Any, field: str
) -> None:
    request = pb.PurgeFeedbackRequest(collection=corpus, **condition)
    assert refused(api.feedback.PurgeFeedback, request).field == field


def test_what_is_past_its_retention_goes_at_the_next_start(new_server: Any, folder: Path) -> None:
    with new_server() as api:
        record(api, "own", click(api.search(filled(api), QUERY)))
    assert len(logged(folder)) == 1
    with new_server(retention_days=1e-9) as api:
        found = stats(api, "own")
        while found.impressions or found.texts or found.events:  # the sweep runs behind the start
            found = stats(api, "own")
    assert logged(folder) == []


@pytest.mark.parametrize("how", ["purge", "age"])
def test_nothing_made_of_deleted_feedback_stays_in_the_data_folder(
    new_server: Any, folder: Path, how: str
) -> None:
    words = "confidentialquery"
    with new_server() as api:
        filled(api)
        for visit, n in itertools.product(range(12), range(4)):  # five quick clicks are a program's
            answer = api.search("own", f"{WORDS[n]} {words}", context={"user_id": f"u{visit}"})
            assert record(api, "own", click(answer, 1))[0].status.code == 0
        assert stats(api, "own").impressions == 48
        mining = Mining(api)
        positives = mining_service_pb2.FeedbackPositives(floor=0.05)
        same = judged({"same": (f"{WORDS[0]} {words}", {"d001": 1})})
        made = mining.mined("own", feedback=positives, queries=same, preset="topk", negatives=3)
        other = mining.mined(
            "own", queries=judged({"q": (WORDS[0], {"d001": 1})}), preset="random", negatives=3
        )
        assert words in made.report_json
        assert words.encode() in b"".join(path.read_bytes() for path in folder.glob("documents.db*"))
        if how == "purge":
            found = purged(api, collection="own", end_time={"seconds": 2**32})
            assert list(found.mining_sets) == [made.name]
            assert files_with(folder, words) == []
            assert mining.names("own") == [other.name]
            request = operations_pb2.ListOperationsRequest(name="operations")
            kept = api.operations.ListOperations(request, timeout=CALL_S).operations
            assert sum("mine-" in operation.name for operation in kept) == 1
    if how == "age":
        with new_server(retention_days=1e-9) as api:
            end_s = time.monotonic() + JOB_S
            while (stats(api, "own").impressions or files_with(folder, words)) and time.monotonic() < end_s:
                time.sleep(0.1)  # the sweep runs behind the start
            assert files_with(folder, words) == []
            assert Mining(api).names("own") == [other.name]


def files_with(folder: Path, words: str) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            if words.encode() in path.read_bytes():
                found.append(str(path.relative_to(folder)))
    return found
