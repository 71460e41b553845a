"""A server finds texts of every language by BM25 alone, without accents and without spaces."""

import pytest
from tests.integration.api.helpers.served import Api, refused

from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import search_service_pb2

TEXTS = {
    "pt": "A manutenção preventiva é feita todos os meses.",
    "zh": "請先備份資料庫。",
    "ko": "데이터베이스를 복구한다",
    "th": "ประเทศไทยมีน้ำ",
    "mixed": "iPhone備份 for everybody 🍕",
}


def make_schema(language: str) -> pb.Schema:
    field = pb.SchemaField(name="text", type=pb.SCHEMA_FIELD_TYPE_TEXT, language=language)
    return pb.Schema(fields=[field])


@pytest.mark.parametrize("language", ["none", "pt", "ja"])
def test_each_text_is_found_by_words_alone(api: Api, language: str) -> None:
    name = f"languages-{language}"
    api.create(name, schema=make_schema(language))
    api.upsert(name, {id: {"text": text} for id, text in TEXTS.items()})
    for query, found in (
        ("manutencao", {"pt"}),
        ("資料庫", {"zh"}),
        ("備份", {"zh", "mixed"}),
        ("데이터베이스", {"ko"}),
        ("ประเทศ", {"th"}),
        ("iphone", {"mixed"}),
        ("🍕", {"mixed"}),
    ):
        arms = [search_service_pb2.Arm(name="bm25")]
        answer = api.search(name, query, arms=arms, explain=True)
        assert {hit.document.id for hit in answer.hits} == found, query
        assert all(hit.score > 0 for hit in answer.hits), query


def test_a_language_that_is_unknown_is_refused(api: Api) -> None:
    for language in ("zh-TW", "klingon"):
        schema = make_schema(language)
        request = pb.CreateCollectionRequest(collection=pb.Collection(name="wrong", schema=schema))
        failure = refused(api.collections.CreateCollection, request)
        assert failure.field == "collection.schema.fields[0].language"
        assert failure.reason == "UNKNOWN_VALUE"
