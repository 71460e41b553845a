"""An alias that is switched while people search, write and click: nothing fails, and no answer is of both."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tests.integration.api.helpers.served import CALL_S, Api, failure, served, tiny_settings

from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import document_service_pb2 as documents_pb

SWITCHES, SEARCHERS = 100, 6
COLOURS = ("blue", "red")


@pytest.fixture
def api(tmp_path: Path) -> object:
    with served(tiny_settings(tmp_path / "data", Path("/nowhere"))) as api:
        yield api


def switch(api: Api, collection: str) -> None:
    api.collections.SetAlias(pb.SetAliasRequest(name="shop", collection=collection), timeout=CALL_S)


def make(api: Api, name: str) -> None:
    """A collection of three documents whose ids say which it is."""
    api.create(name, encoder="none")
    api.upsert(name, {f"{name}-{n}": {"text": "thing"} for n in range(3)})


class Callers:
    """Callers that search the alias until they are stopped.

    Attributes:
        answers: the collections that each answer's hits are of.
        failures: what went wrong.
        sizes: how many hits answers had.
    """

    def __init__(self, api: Api) -> None:
        self._api, self._stop = api, threading.Event()
        self.answers: list[frozenset[str]] = []
        self.failures: list[str] = []
        self.sizes: set[int] = set()

    def search(self) -> None:
        while not self._stop.is_set():
            try:
                hits = self._api.search("shop", "thing").hits
            except grpc.RpcError as error:
                self.failures.append(str(failure(error)))
                continue
            self.sizes.add(len(hits))
            self.answers.append(frozenset(hit.document.id.rpartition("-")[0] for hit in hits))

    def during(self, work: Callable[[], None]) -> None:
        with ThreadPoolExecutor(SEARCHERS) as threads:
            running = [threads.submit(self.search) for _ in range(SEARCHERS)]
            try:
                work()
            finally:
                self._stop.set()
        for one in running:
            one.result()


def test_searches_are_answered_by_one_or_the_other_and_never_by_none(api: Api) -> None:
    for colour in COLOURS:
        make(api, colour)
    switch(api, "red")
    callers = Callers(api)

    def switch_often() -> None:
        for number in range(SWITCHES):
            switch(api, COLOURS[number % 2])

    callers.during(switch_often)
    assert callers.failures == []
    assert set(callers.answers) == {frozenset({colour}) for colour in COLOURS}
    assert callers.sizes == {3}


def test_what_was_named_before_can_be_deleted_at_once(api: Api) -> None:
    """A new collection takes over and the old one goes, ten times, and no search fails.

    A search that is under way in a collection that goes may miss its documents.
    """
    make(api, "shop-0")
    switch(api, "shop-0")
    callers = Callers(api)

    def replace() -> None:
        for number in range(1, 11):
            make(api, f"shop-{number}")
            switch(api, f"shop-{number}")
            old = pb.DeleteCollectionRequest(name=f"shop-{number - 1}")
            api.collections.DeleteCollection(old, timeout=CALL_S)

    callers.during(replace)
    assert callers.failures == []
    assert all(len(answer) <= 1 for answer in callers.answers)
    assert len(set(callers.answers)) > 5


def test_a_write_through_the_alias_is_in_one_of_them(api: Api) -> None:
    for colour in COLOURS:
        make(api, colour)
    switch(api, "red")
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            api.upsert("shop", {f"w{number}": {"text": "written"}})
            written.append(f"w{number}")
            number += 1

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(write)
        for number in range(SWITCHES):
            switch(api, COLOURS[number % 2])
        stop.set()
        running.result()
    found = []
    for colour in COLOURS:
        request = documents_pb.ListDocumentsRequest(collection=colour, page_size=1_000)
        listed = api.documents.ListDocuments(request, timeout=CALL_S).documents
        found += [one.id for one in listed if one.id.startswith("w")]
    assert sorted(found) == sorted(written)
