"""Writers that mix all kinds of writes, each on documents of its own, and tell the oracle what was said."""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import grpc
from tests.integration.crash.oracle import (
    Effect,
    Oracle,
    State,
    Write,
    document_of,
    fields_of,
    state_of,
)
from tests.integration.crash.server import CALL_S, Client

from quarry.v1 import document_service_pb2 as pb
from quarry.v1 import search_service_pb2, types_pb2

COLLECTION = "crashes"
DOCUMENTS_PER_WRITER = 60
GROUPS = 6
LARGEST_BATCH = 24
SEARCHABLE = pb.WRITE_VISIBILITY_SEARCHABLE
NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]
LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
WORDS = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("anto", "ebur", "ilas", "omek", "ursi")]


class ServerLostError(Exception):
    """The server was killed while it was checked: by a fault that the check itself has reached."""


class Writer:
    """One client, which waits for each answer before it goes on.

    Attributes:
        unanswered: the write whose answer was lost; None if the last was answered.
    """

    def __init__(self, name: str, oracle: Oracle, random: Random) -> None:
        self._name, self._oracle, self._random = name, oracle, random
        self._count = 0
        self._ids = [f"{name}-{number}" for number in range(DOCUMENTS_PER_WRITER)]
        self.unanswered: Write | None = None

    async def run(self, client: Client, stop: asyncio.Event) -> None:
        """Writes until told to stop or until the server is gone."""
        while not stop.is_set() and await self.send(client, self._take_next()):
            pass

    async def send(self, client: Client, write: Write) -> bool:
        """Whether it was answered; the answer is held to what was promised."""
        self.unanswered = write
        try:
            answer = await getattr(client.documents, write.method)(write.request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            if error.code() in LOST:
                return False
            if error.code() is not grpc.StatusCode.NOT_FOUND or write.method != "UpdateDocument":
                raise
            answer = None
        self.unanswered = None
        self._answered(write, answer)
        if answer is not None and answer.result.reached == SEARCHABLE:
            await self._found(client, write)
        return True

    async def retry(self, client: Client) -> None:
        """After a crash: sends the unanswered write again if it has an id; otherwise its fate is open."""
        write, self.unanswered = self.unanswered, None
        if write is None:
            return
        if write.request.request_id:
            if not await self.send(client, write):
                raise ServerLostError
        else:
            self._oracle.lost_reply(write)

    # what was promised

    def _answered(self, write: Write, answer: Any) -> None:
        oracle = self._oracle
        if write.method == "DeleteDocumentsByFilter":
            self._deleted_by_filter(write, answer)
        elif write.method == "UpdateDocument":
            (id,) = write.effects
            if answer is None:
                oracle.settle(id, None)
                return
            became = state_of(fields_of(answer.document))
            oracle.wrote(id, write.effects[id], answer.document.version, became)
        else:
            for status in answer.statuses:
                self._one(write, status)
        oracle.reached(answer.result.sequence)
        if write.request.request_id:
            oracle.answered.append((write, answer))

    def _one(self, write: Write, status: pb.DocumentStatus) -> None:
        if status.id not in write.effects:
            assert status.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], status
        elif status.status.code == NOT_FOUND:
            self._oracle.settle(status.id, None)
        else:
            assert status.status.code == 0, status
            effect = write.effects[status.id]
            self._oracle.wrote(status.id, effect, int(status.etag.strip('"')), effect(None))

    def _deleted_by_filter(self, write: Write, answer: Any) -> None:
        matching = {
            id: {effect(state) != state for state in self._oracle.read_states(id)}
            for id, effect in write.effects.items()
        }
        certain = sum(outcomes == {True} for outcomes in matching.values())
        possible = sum(True in outcomes for outcomes in matching.values())
        assert certain <= answer.deleted_count <= possible
        for id, effect in write.effects.items():
            after = {effect(state) for state in self._oracle.read_states(id)}
            if after != self._oracle.read_states(id):
                self._oracle.allowed[id] = after
                self._oracle.versions.pop(id, None)

    async def _found(self, client: Client, write: Write) -> None:
        """A write that was said to be searchable is seen by the next search."""
        id = self._random.choice(list(write.effects))
        (state, *others) = self._oracle.read_states(id)
        if state is None or others:
            return
        try:
            found = await retrieve(client, "bm25", str(dict(state)["token"]), 10)
        except grpc.aio.AioRpcError as error:
            assert error.code() in LOST, error
            return
        assert found == [id], f"{id} was said to be searchable, and {found} was found"

    # what to write next

    def _take_next(self) -> Write:
        kinds = (self._upsert, self._upsert_one, self._update, self._delete, self._delete_by_filter)
        (make,) = self._random.choices(kinds, weights=(5, 4, 4, 2, 1))
        return make(
            request_id=f"{self._name}/{self._random.getrandbits(60):x}"
            if self._random.random() < 0.5
            else "",
            wait=SEARCHABLE if self._random.random() < 0.15 else pb.WRITE_VISIBILITY_LOGGED,
        )

    def _upsert_one(self, **common: Any) -> Write:
        return self._upsert_of([self._random.choice(self._ids)], **common)

    def _upsert(self, **common: Any) -> Write:
        return self._upsert_of(
            self._random.sample(self._ids, self._random.randint(2, LARGEST_BATCH)), **common
        )

    def _upsert_of(self, ids: Sequence[str], **common: Any) -> Write:
        contents = {id: self._fields(id) for id in ids}
        documents = [document_of(id, fields) for id, fields in contents.items()]
        if self._random.random() < 0.2:  # a bad one among them must not harm the others
            documents.append(document_of(f"{self._name}-bad", {"no such field": 1}))
        request = pb.BatchUpsertDocumentsRequest(collection=COLLECTION, documents=documents, **common)
        effects = {id: becomes(state_of(fields)) for id, fields in contents.items()}
        return Write("BatchUpsertDocuments", request, effects)

    def _update(self, **common: Any) -> Write:
        id = self._random.choice(self._ids)
        new = self._fields(id)
        changed = {name: new[name] for name in self._random.choice((("group",), ("group", "number")))}
        request = pb.UpdateDocumentRequest(collection=COLLECTION, document=document_of(id, changed), **common)
        request.update_mask.paths.extend(changed)
        return Write("UpdateDocument", request, {id: merges(changed)})

    def _delete(self, **common: Any) -> Write:
        ids = self._random.sample(self._ids, self._random.randint(1, 6))
        request = pb.BatchDeleteDocumentsRequest(collection=COLLECTION, ids=ids, **common)
        return Write("BatchDeleteDocuments", request, {id: becomes(None) for id in ids})

    def _delete_by_filter(self, **common: Any) -> Write:
        group = f"{self._name}{self._random.randrange(GROUPS)}"
        filter = types_pb2.Filter(
            equal_to=types_pb2.EqualToFilter(field="group", value=types_pb2.FieldValue(string_value=group))
        )
        request = pb.DeleteDocumentsByFilterRequest(collection=COLLECTION, filter=filter, **common)
        return Write("DeleteDocumentsByFilter", request, {id: vanishes_in(group) for id in self._ids})

    def _fields(self, id: str) -> dict[str, str | int]:
        self._count += 1
        token = f"{id.replace('-', 'x')}x{self._count}"
        length = self._random.choice((4, 12, 90))  # the longest has several passages
        return {
            "token": token,
            "text": " ".join(self._random.choices(WORDS, k=length)) + f" {token}.",
            "group": f"{self._name}{self._random.randrange(GROUPS)}",
            "number": self._count,
        }


def becomes(state: State) -> Effect:
    return lambda _: state


def merges(fields: Mapping[str, str | int]) -> Effect:
    return lambda state: None if state is None else state_of({**dict(state), **fields})


def vanishes_in(group: str) -> Effect:
    return lambda state: None if state is None or dict(state)["group"] == group else state


async def retrieve(client: Client, arm: str, text: str, depth: int) -> list[str]:
    """Ids of what one arm finds, best first."""
    request = search_service_pb2.RetrieveRequest(
        collection=COLLECTION,
        queries=[search_service_pb2.RetrieveQuery(id="1", text=text)],
        arms=[search_service_pb2.Arm(name=arm, depth=depth)],
    )
    answer = await client.search.Retrieve(request, timeout=CALL_S)
    ((found,),) = [result.arms for result in answer.results]
    if found.status.code:
        raise AssertionError(f"{arm}: {found.status}")
    return [candidate.document_id for candidate in found.candidates]
