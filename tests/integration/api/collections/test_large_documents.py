"""`quarry index` on a real server that encodes a large document for some time."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from tests.integration.api.helpers.served import CALL_S, Api, document
from typer.testing import CliRunner

from quarry.v1 import collection_service_pb2
from quarry.v1 import document_service_pb2 as pb
from quarry_cli.main import app

FILE_WORDS, OTHERS_WORDS = 15_000, 60_000
"""Some 130,000 and 530,000 characters."""


@pytest.fixture
def name(api: Api, new_name: Callable[[], str]) -> str:
    return api.create(new_name()).name


@pytest.fixture
def index(api: Api, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Indexes documents from a file until they are searchable, and returns what that said meanwhile."""
    monkeypatch.setenv("QUARRY_SERVER", api.address)
    monkeypatch.setattr("quarry_cli.console.SAY_EVERY_S", 0.02)
    monkeypatch.setattr("quarry_cli.calls.visibility.POLL_S", 0.01)

    def run(**texts: str) -> str:
        file = tmp_path / "corpus.jsonl"
        file.write_text("".join(json.dumps({"_id": id, "text": text}) + "\n" for id, text in texts.items()))
        ended = CliRunner().invoke(app, ["index", name, str(file), "--wait", "searchable"])
        assert ended.exit_code == 0, ended.output
        return ended.stderr

    return run


def make_text(words: int) -> str:
    random = Random(1)
    return " ".join(f"word{random.randrange(5_000)}" for _ in range(words))


def list_encoding(api: Api, collection: str) -> list[collection_service_pb2.EncodingProgress]:
    request = collection_service_pb2.GetCollectionRequest(name=collection)
    arms = api.collections.GetCollection(request, timeout=CALL_S).collection.status.arms
    return next(list(arm.encoding) for arm in arms if arm.arm == "dense")


def find_arms(api: Api, collection: str, query: str, id: str) -> set[str]:
    hits = api.search(collection, query, explain=True).hits
    return {found.arm for hit in hits if hit.document.id == id for found in hit.explanation.arms}


def test_a_file_does_not_wait_for_a_large_document_of_others(
    api: Api, name: str, index: Callable[..., str]
) -> None:
    others = document("others", text=make_text(OTHERS_WORDS))
    request = pb.BatchUpsertDocumentsRequest(collection=name, documents=[others])
    written = api.documents.BatchUpsertDocuments(request, timeout=CALL_S).result.sequence
    index(mine="five words about red foxes")
    assert [one.sequence for one in list_encoding(api, name)] == [written]
    assert find_arms(api, name, "red foxes", "mine") == {"bm25", "dense"}
    api.delete(name, "others")
    assert list_encoding(api, name) == []


def test_a_file_waits_for_its_own_large_document_and_says_so(
    api: Api, name: str, index: Callable[..., str]
) -> None:
    said = index(large=make_text(FILE_WORDS), small="five words about red foxes")
    assert "encoding 1 large document (" in said
    assert list_encoding(api, name) == []
    assert find_arms(api, name, "word17", "large") == {"bm25", "dense"}
