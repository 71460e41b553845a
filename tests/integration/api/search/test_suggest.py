"""A server completes what is typed, by titles and phrases of documents that the caller may see."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from tests.integration.api.helpers.served import CALL_S, Api, refused, served, tiny_settings
from typer.testing import CliRunner

from quarry.client import AsyncClient, Client
from quarry.v1 import collection_service_pb2, search_service_pb2
from quarry.v1 import search_service_pb2 as pb
from quarry_cli.main import app

SCHEMA = collection_service_pb2.Schema(
    fields=[
        {"name": "title", "type": "SCHEMA_FIELD_TYPE_TEXT", "is_title": True},
        {"name": "text", "type": "SCHEMA_FIELD_TYPE_TEXT"},
        {"name": "group", "type": "SCHEMA_FIELD_TYPE_KEYWORD"},
    ]
)
DOCUMENTS: dict[str, dict[str, Any]] = {
    "tuning": {"title": "Tuning Java memory", "text": "A heap of garbage", "group": "all"},
    "leaks": {"title": "Java memory leaks", "text": "The garbage collector runs", "group": "all"},
    "secret": {"title": "Java memory of Project X", "text": "secret garbage collector", "group": "few"},
    "plan": {"title": "Plan", "text": "the secret project begins; a secret project ends", "group": "few"},
    "again": {"title": "Plan", "text": "our secret project", "group": "few"},
    "html": {"title": "<b>Bold</b> & brave", "group": "all"},
}
FOR_ALL = {"equal_to": {"field": "group", "value": {"string_value": "all"}}}


def suggest(api: Api, collection: str, text: str, **settings: Any) -> pb.SuggestResponse:
    request = pb.SuggestRequest(collection=collection, text=text, **settings)
    return api.searches.Suggest(request, timeout=CALL_S)


def list_texts(answer: pb.SuggestResponse) -> list[str]:
    return [suggestion.text for suggestion in answer.suggestions]


@pytest.fixture(scope="module")
def manuals(api: Api) -> str:
    api.create("suggested", schema=SCHEMA)
    api.upsert("suggested", DOCUMENTS)
    return "suggested"


def test_titles_complete_what_is_typed_and_lead_to_their_documents(api: Api, manuals: str) -> None:
    answer = suggest(api, manuals, "java mem")
    titles = [s for s in answer.suggestions if s.kind == pb.SUGGESTION_KIND_TITLE]
    assert [t.text for t in titles] == ["Java memory leaks", "Java memory of Project X", "Tuning Java memory"]
    assert [t.document_id for t in titles] == ["leaks", "secret", "tuning"]
    assert [(part.start, part.length) for part in titles[2].highlights] == [(7, 4), (12, 3)]
    assert all(t.documents == pb.Total(count=1, relation="TOTAL_RELATION_EXACT") for t in titles)
    assert not answer.degraded


def test_what_only_hidden_documents_have_is_neither_suggested_nor_counted(api: Api, manuals: str) -> None:
    assert list_texts(suggest(api, manuals, "secret pro")) == ["secret project"]
    assert list_texts(suggest(api, manuals, "secret pro", filter=FOR_ALL)) == []
    assert list_texts(suggest(api, manuals, "java memory o", filter=FOR_ALL)) == []
    assert [(s.text, s.documents.count) for s in suggest(api, manuals, "garbage").suggestions] == [
        ("garbage collector", 2)
    ]
    assert list_texts(suggest(api, manuals, "garbage", filter=FOR_ALL)) == []


def test_markup_is_given_as_it_is_with_offsets_beside(api: Api, manuals: str) -> None:
    (found,) = suggest(api, manuals, "bol").suggestions
    assert found.text == "<b>Bold</b> & brave"
    assert [(part.start, part.length) for part in found.highlights] == [(3, 3)]


def test_deleted_documents_disappear_and_changed_ones_change(api: Api) -> None:
    api.create("fleeting")
    api.upsert(
        "fleeting", {"a": {"title": "Red kettle"}, "b": {"title": "Red kettle"}, "c": {"title": "Redwood"}}
    )
    assert [s.documents.count for s in suggest(api, "fleeting", "red k").suggestions] == [2]
    api.delete("fleeting", "a", "c")
    (kettle,) = suggest(api, "fleeting", "red").suggestions
    assert (kettle.text, kettle.document_id, kettle.documents.count) == ("Red kettle", "b", 1)
    api.upsert("fleeting", {"b": {"title": "Reddish pan"}})
    assert list_texts(suggest(api, "fleeting", "red")) == ["Reddish pan"]


def test_an_alias_an_empty_collection_and_one_without_titles_are_answered(api: Api) -> None:
    text = collection_service_pb2.SchemaField(name="body", type="SCHEMA_FIELD_TYPE_TEXT")
    api.create("untitled", schema=collection_service_pb2.Schema(fields=[text]))
    assert suggest(api, "untitled", "iron") == pb.SuggestResponse()
    api.upsert("untitled", {"a": {"body": "an iron gate"}, "b": {"body": "Iron gates, an iron gate."}})
    alias = collection_service_pb2.SetAliasRequest(name="untitled-too", collection="untitled")
    api.collections.SetAlias(alias, timeout=CALL_S)
    (gate,) = suggest(api, "untitled-too", "iron").suggestions
    assert (gate.text, gate.kind, gate.document_id) == ("iron gate", pb.SUGGESTION_KIND_PHRASE, "")
    assert gate.documents == pb.Total(count=2, relation="TOTAL_RELATION_EXACT")
    api.create("numbers", schema={"fields": [{"name": "n", "type": "SCHEMA_FIELD_TYPE_INTEGER"}]})
    api.upsert("numbers", {"a": {"n": 1}})
    assert suggest(api, "numbers", "1") == pb.SuggestResponse()


async def test_both_clients_and_the_command_line_ask_the_same(api: Api, manuals: str) -> None:
    request = pb.SuggestRequest(collection=manuals, text="java mem", filter=FOR_ALL)
    with Client(api.address, timeout_s=CALL_S) as quarry:
        answer = quarry.search.Suggest(request)
    async with AsyncClient(api.address, timeout_s=CALL_S) as client:
        assert await client.search.Suggest(request) == answer
    typed = ["suggest", manuals, "java mem", "--where", "group=all", "--server", api.address]
    shown = await asyncio.to_thread(CliRunner().invoke, app, typed)
    assert shown.stdout.splitlines() == [
        "Java memory leaks  1 document  leaks",
        "Tuning Java memory  1 document  tuning",
        "Java memory  2 documents",
    ]
    said = await asyncio.to_thread(CliRunner().invoke, app, [*typed, "--json"])
    assert ParseDict(json.loads(said.stdout), pb.SuggestResponse()) == answer


def test_the_index_outlives_a_restart_and_is_made_anew_where_it_is_damaged(
    tmp_path: Path, encoder_folder: Path
) -> None:
    settings = tiny_settings(tmp_path, encoder_folder)
    with served(settings) as api:
        api.create("kept", encoder="none")
        api.upsert("kept", {"a": {"title": "Red kettle"}})
        assert list_texts(suggest(api, "kept", "kett")) == ["Red kettle"]
        api.upsert("kept", {"b": {"title": "Kettle drum"}})
    (described,) = tmp_path.glob("collections/**/suggestions/meta.json")
    for damage in ("", "{}"):
        if damage:
            described.write_text(damage)
        with served(settings) as api:
            assert list_texts(suggest(api, "kept", "kett")) == ["Kettle drum", "Red kettle"]


@pytest.mark.parametrize(
    ("settings", "field", "reason"),
    [
        ({"text": ""}, "text", "REQUIRED"),
        ({"text": " \n"}, "text", "REQUIRED"),
        ({"text": "x" * 513}, "text", "VALUE_OUT_OF_RANGE"),
        ({"limit": 21}, "limit", "VALUE_OUT_OF_RANGE"),
        ({"limit": -1}, "limit", "VALUE_OUT_OF_RANGE"),
        ({"kinds": [pb.SUGGESTION_KIND_TITLE, 7]}, "kinds[1]", "UNKNOWN_VALUE"),
        ({"kinds": [0]}, "kinds[0]", "UNKNOWN_VALUE"),
        ({"filter": {"exists": {"field": "nothing"}}}, "filter.exists.field", "UNKNOWN_FIELD"),
    ],
)
def test_what_is_wrong_is_named(api: Api, manuals: str, settings: Any, field: str, reason: str) -> None:
    request = search_service_pb2.SuggestRequest(**{"collection": manuals, "text": "java", **settings})
    failure = refused(api.searches.Suggest, request)
    assert (failure.field, failure.reason) == (field, reason)


def test_text_without_words_completes_nothing_and_kinds_can_be_chosen(api: Api, manuals: str) -> None:
    assert suggest(api, manuals, "?!") == pb.SuggestResponse()
    assert list_texts(suggest(api, manuals, "secret", kinds=["SUGGESTION_KIND_PHRASE"])) == ["secret project"]
    assert list_texts(suggest(api, manuals, "secret", kinds=["SUGGESTION_KIND_TITLE"])) == []
    assert list_texts(suggest(api, manuals, "java", limit=1)) == ["Java memory leaks"]
