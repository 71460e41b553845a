"""Holds a server that was started again to everything that the one before it had promised."""

from random import Random

from tests.integration.crash.oracle import Oracle, fields_of, state_of
from tests.integration.crash.server import CALL_S, Client
from tests.integration.crash.workload import COLLECTION, retrieve

from quarry.v1 import collection_service_pb2, document_service_pb2, search_service_pb2, types_pb2

SAMPLED = 8


async def listed(client: Client, collection: str = COLLECTION) -> dict[str, types_pb2.Document]:
    """Every document that the log holds."""
    found: dict[str, types_pb2.Document] = {}
    request = document_service_pb2.ListDocumentsRequest(collection=collection, page_size=500)
    while True:
        answer = await client.documents.ListDocuments(request, timeout=CALL_S)
        found |= {document.id: document for document in answer.documents}
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def assert_documents(client: Client, oracle: Oracle) -> None:
    """0 lost, 0 resurrected, numbers never go back. Settles what was open."""
    documents = await listed(client)
    strangers = documents.keys() - oracle.allowed.keys()
    assert not strangers, f"nobody wrote {sorted(strangers)}"
    for id in oracle.allowed:
        document = documents.get(id)
        state = None if document is None else state_of(fields_of(document))
        version = 0 if document is None else document.version
        certain = oracle.versions.get(id, 0) if state is not None else 0
        assert not certain or version == certain, f"{id} has version {version}, acknowledged was {certain}"
        oracle.settle(id, state, version)
    collection = await client.read_collection(COLLECTION)
    assert collection.status.last_sequence >= oracle.sequence
    assert collection.status.last_sequence >= max((d.version for d in documents.values()), default=0)
    assert collection.status.document_count == len(documents)
    assert collection.status.read_only_reason == ""


async def assert_repeats(client: Client, oracle: Oracle, random: Random) -> None:
    """Requests answered before the crash are answered the same again, and change nothing."""
    before = await client.read_collection(COLLECTION)
    for write, answer in random.sample(oracle.answered, min(SAMPLED, len(oracle.answered))):
        again = await getattr(client.documents, write.method)(write.request, timeout=CALL_S)
        again.result.reached = answer.result.reached
        assert again == answer
    after = await client.read_collection(COLLECTION)
    assert after.status.last_sequence == before.status.last_sequence


async def assert_indexes(client: Client, oracle: Oracle, random: Random) -> None:
    """Both arms equal the log, and searches find what is there and nothing else."""
    found = await client.consistency(COLLECTION)
    assert found.consistent, describe(found)
    assert [arm.arm for arm in found.arms] == ["bm25", "dense"]
    living = oracle.living()
    assert all(arm.documents == len(living) for arm in found.arms)
    for id in random.sample(sorted(living), min(SAMPLED, len(living))):
        assert await retrieve(client, "bm25", str(living[id]["token"]), 10) == [id]
    if living:
        text = str(living[min(living)]["text"])
        assert set(await retrieve(client, "dense", text, 1_000)) == living.keys()
    request = search_service_pb2.SearchRequest(
        collection=COLLECTION, query="bantoanto debur", page_size=10, require_complete=True
    )
    answer = await client.search.Search(request, timeout=CALL_S)
    assert not answer.degraded
    assert {hit.document.id for hit in answer.hits} <= living.keys()
    assert len(answer.hits) == min(10, len(living))


def describe(found: collection_service_pb2.CheckConsistencyResponse) -> str:
    return "; ".join(
        f"{arm.arm} of {arm.documents}: {kind} {list(difference.sample_ids)}"
        for arm in found.arms
        for kind in ("missing", "surplus", "outdated")
        if (difference := getattr(arm, kind)).count
    )
