"""The whole loop as a client in any language walks it: index, search, click, mine, train, promote, search.

Nothing but generated stubs: what this test can do, every client can. Users are simulated, and say so.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from pyarrow import parquet

from quarry.questions import make_question_key
from quarry.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    document_service_pb2,
    document_service_pb2_grpc,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    mining_service_pb2,
    mining_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
    training_service_pb2,
    training_service_pb2_grpc,
    types_pb2,
)
from quarry_cli.server_process import run_server

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "data" / "stackfaq-webapps"
NAME, DOCUMENTS, SESSIONS_A_QUERY = "help", 120, 4
CALL_S, JOB_S = 120.0, 400.0


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    with (
        run_server(tmp_path_factory.mktemp("server")) as address,
        grpc.insecure_channel(address) as channel,
    ):
        yield channel


def lines(file: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SAMPLE / file).read_text().splitlines()]


def relevant(split: str, among: set[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (SAMPLE / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]:
        query, document, _ = line.split("\t")
        if document in among:
            found.setdefault(query, set()).add(document)
    return found


def finished(channel: grpc.Channel, operation: operations_pb2.Operation) -> operations_pb2.Operation:
    stub, deadline = operations_pb2_grpc.OperationsStub(channel), time.monotonic() + JOB_S
    while not operation.done:
        assert time.monotonic() < deadline, operation
        wait = operations_pb2.WaitOperationRequest(
            name=operation.name, timeout=duration_pb2.Duration(seconds=5)
        )
        operation = stub.WaitOperation(wait, timeout=CALL_S)
    assert not operation.HasField("error"), operation.error
    return operation


@pytest.mark.timeout(900)
def test_the_loop(channel: grpc.Channel) -> None:
    records = lines("corpus.jsonl")[:DOCUMENTS]
    index(channel, records)
    ids = {record["_id"] for record in records}
    texts = {record["_id"]: record["text"] for record in lines("queries.jsonl")}
    clicked = {texts[query]: some for query, some in relevant("known-train", ids).items()}
    judged = {texts[query]: some for query, some in relevant("known-test", ids).items()}

    click(channel, clicked)
    mining_set = mine(channel)
    model = train(channel, mining_set.name, judged)
    assert model.name == f"{NAME}@1"
    assert model.state == model_service_pb2.MODEL_STATE_CANDIDATE
    assert model.verdict not in (
        model_service_pb2.MODEL_VERDICT_UNSPECIFIED,
        model_service_pb2.MODEL_VERDICT_BAD_DATA,
    )
    assert model.lineage.examples == mining_set.name
    assert model.lineage.simulated
    assert 0 < model.lineage.feedback_start_time.seconds <= model.lineage.feedback_end_time.seconds
    difference = next(
        m for m in model.metrics if (m.measure, m.slice, m.subject) == ("nDCG@10", "all", "difference")
    )
    assert difference.queries == len(judged)  # so few all decide
    assert difference.lower <= difference.value <= difference.upper

    query = next(iter(judged))
    assert search(channel, query).reranker == ""
    promote(channel, model.name)
    answer = search(channel, query)
    assert answer.reranker == model.name
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    for hit in answer.hits:
        blended = (
            model.blend.rerank * hit.explanation.rerank_score
            + model.blend.fused * hit.explanation.fused_score
        )
        assert hit.explanation.raw_score == pytest.approx(blended, abs=1e-4)

    click(channel, clicked, first_user=SESSIONS_A_QUERY)
    assert_no_easier_and_no_more_wrong(
        examples(channel, mining_set), examples(channel, mine(channel)), clicked
    )

    models = model_service_pb2_grpc.ModelServiceStub(channel)
    back = models.RollbackModel(
        model_service_pb2.RollbackModelRequest(collection=NAME, promoted_by="a person"), timeout=CALL_S
    )
    assert (back.serving, back.previous) == ("", model.name)
    assert search(channel, query).reranker == ""


def index(channel: grpc.Channel, records: list[dict[str, str]]) -> None:
    schema = collection_service_pb2.Schema(
        fields=[
            collection_service_pb2.SchemaField(
                name="text", type=collection_service_pb2.SCHEMA_FIELD_TYPE_TEXT
            )
        ]
    )
    collection_service_pb2_grpc.CollectionServiceStub(channel).CreateCollection(
        collection_service_pb2.CreateCollectionRequest(
            collection=collection_service_pb2.Collection(name=NAME, schema=schema)
        ),
        timeout=CALL_S,
    )
    documents = [
        types_pb2.Document(
            id=record["_id"], fields={"text": types_pb2.FieldValue(string_value=record["text"])}
        )
        for record in records
    ]
    answer = document_service_pb2_grpc.DocumentServiceStub(channel).BatchUpsertDocuments(
        document_service_pb2.BatchUpsertDocumentsRequest(
            collection=NAME, documents=documents, wait=document_service_pb2.WRITE_VISIBILITY_SEARCHABLE
        ),
        timeout=CALL_S,
    )
    assert not any(status.status.code for status in answer.statuses)


def search(
    channel: grpc.Channel, query: str, user: str = "", logged: bool = False
) -> search_service_pb2.SearchResponse:
    return search_service_pb2_grpc.SearchServiceStub(channel).Search(
        search_service_pb2.SearchRequest(
            collection=NAME,
            query=query,
            explain=True,
            unlogged=not logged,
            require_complete=True,
            context=search_service_pb2.SearchContext(user_id=user, simulated=True),
        ),
        timeout=CALL_S,
    )


def click(channel: grpc.Channel, needs: dict[str, set[str]], first_user: int = 0) -> None:
    """Each query is asked by several users, who click on most of what is relevant on the page."""
    stub, chance = feedback_service_pb2_grpc.FeedbackServiceStub(channel), random.Random(0)
    for number, (query, wanted) in enumerate(needs.items()):
        for user in range(first_user, first_user + SESSIONS_A_QUERY):
            answer = search(channel, query, f"simulated-{number}-{user}", logged=True)
            events = [
                feedback_service_pb2.Event(
                    event_id=f"{answer.search_id}-{hit.rank}",
                    type=feedback_service_pb2.EVENT_TYPE_CLICK,
                    attribution_token=answer.attribution_token,
                    document_id=hit.document.id,
                )
                for hit in answer.hits
                if hit.document.id in wanted and chance.random() < 0.8
            ]
            if events:
                recorded = stub.RecordEvents(
                    feedback_service_pb2.RecordEventsRequest(collection=NAME, events=events), timeout=CALL_S
                )
                assert not any(status.status.code for status in recorded.statuses)


def mine(channel: grpc.Channel) -> mining_service_pb2.MiningSet:
    request = mining_service_pb2.MineHardNegativesRequest(
        collection=NAME, feedback=mining_service_pb2.FeedbackPositives()
    )
    operation = mining_service_pb2_grpc.MiningServiceStub(channel).MineHardNegatives(request, timeout=CALL_S)
    made = mining_service_pb2.MiningSet()
    assert finished(channel, operation).response.Unpack(made)
    assert made.verdict == mining_service_pb2.MINING_VERDICT_GOOD
    assert made.rows > 100
    assert made.simulated
    return made


Rows = list[dict[str, Any]]


def examples(channel: grpc.Channel, made: mining_service_pb2.MiningSet) -> Rows:
    stub = mining_service_pb2_grpc.MiningServiceStub(channel)
    read = stub.ReadExamples(mining_service_pb2.ReadExamplesRequest(name=made.name), timeout=CALL_S)
    rows: Rows = parquet.read_table(BytesIO(b"".join(part.parquet for part in read))).to_pylist()
    return rows


def assert_no_easier_and_no_more_wrong(first: Rows, second: Rows, needs: dict[str, set[str]]) -> None:
    """What a promoted model believes does not poison the next set: negatives are as near to their queries as
    before, hardly any is drawn at random, and nothing becomes a positive that answers nothing."""
    relevant = {make_question_key(text): some for text, some in needs.items()}

    def share(rows: Rows, yes: Callable[[dict[str, Any]], bool]) -> float:
        return sum(map(yes, rows)) / len(rows)

    def nearness(rows: Rows) -> float:
        return sum(row["s_qd"] for row in rows if row["label"] == 0) / len(rows)

    def answers(row: dict[str, Any]) -> bool:
        return row["negative_id"] in relevant[make_question_key(row["query"])]

    assert nearness(second) > nearness(first) - 0.05
    assert share(second, lambda row: row["rung"] == "random") < 0.1
    assert all(answers(row) for row in second if row["label"] == 1)
    assert share(second, answers) < share(first, answers) + 0.05


def train(channel: grpc.Channel, mining_set: str, judged: dict[str, set[str]]) -> model_service_pb2.Model:
    request = training_service_pb2.TrainRerankerRequest(
        collection=NAME,
        mining_set=mining_set,
        steps=10,
        max_tokens=64,
        form=training_service_pb2.RERANKER_FORM_SPLIT,
        judgments=[
            mining_service_pb2.JudgedQuery(
                query_id=f"judged-{number}",
                text=text,
                judgments=[mining_service_pb2.Judgment(document_id=id, grade=1) for id in sorted(wanted)],
            )
            for number, (text, wanted) in enumerate(judged.items())
        ],
    )
    operation = training_service_pb2_grpc.TrainingServiceStub(channel).TrainReranker(request, timeout=CALL_S)
    made = model_service_pb2.Model()
    assert finished(channel, operation).response.Unpack(made)
    return made


def promote(channel: grpc.Channel, name: str) -> None:
    request = model_service_pb2.PromoteModelRequest(name=name, promoted_by="a person", reason="a test")
    promoted = model_service_pb2_grpc.ModelServiceStub(channel).PromoteModel(request, timeout=CALL_S)
    assert promoted.model.state == model_service_pb2.MODEL_STATE_SERVING
    assert promoted.previous == ""
