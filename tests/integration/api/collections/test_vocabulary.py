"""Synonyms and stop words of a collection: they hold at once, and over a restart."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tests.integration.api.helpers.served import Api, refused

from quarry.v1 import collection_service_pb2 as pb
from quarry.v1.search_service_pb2 import RetrieveQuery, RetrieveRequest

TEXTS = {"a": {"text": "a car for rent"}, "b": {"text": "an automobile"}, "c": {"text": "a motor car show"}}
CARS = pb.SynonymRule(phrases=["car", "automobile"])
BIKES = pb.SynonymRule(phrases=["vehicle"], finds=["motor car"])


def put(api: Api, name: str, part: str, etag: str = "", **values: Any) -> pb.SetVocabularyResponse:
    answer: pb.SetVocabularyResponse = api.collections.SetVocabulary(make(name, part, etag, **values))
    return answer


def make(name: str, part: str, etag: str = "", **values: Any) -> pb.SetVocabularyRequest:
    mask = FieldMask(paths=[part] if part else [])
    return pb.SetVocabularyRequest(
        collection=name, vocabulary=pb.Vocabulary(**values), update_mask=mask, etag=etag
    )


def find(api: Api, name: str, query: str, **settings: Any) -> set[str]:
    return {hit.document.id for hit in api.search(name, query, **settings).hits}


def test_synonyms_hold_from_the_next_search_on_and_over_a_restart(new_server: Callable[..., Any]) -> None:
    with new_server() as api:
        api.create("cars", encoder="none")
        api.upsert("cars", TEXTS)
        assert find(api, "cars", "car") == {"a", "c"}
        put(api, "cars", "synonyms", synonyms=[CARS, BIKES])
        put(api, "cars", "stop_words", stop_words=["rent"])
        assert find(api, "cars", "car") == {"a", "b", "c"}
        assert find(api, "cars", "vehicles") == {"c"}
        assert find(api, "cars", "rent show") == {"c"}
        assert find(api, "cars", "rent") == {"a"}
        request = RetrieveRequest(collection="cars", queries=[RetrieveQuery(text="automobile")])
        arms = api.searches.Retrieve(request).results[0].arms
        assert {c.document_id for c in arms[0].candidates} == {"a", "b", "c"}
    with new_server() as api:
        assert find(api, "cars", "car") == {"a", "b", "c"}
        kept = api.collections.GetVocabulary(pb.GetVocabularyRequest(collection="cars"))
        assert kept.vocabulary == pb.Vocabulary(synonyms=[CARS, BIKES], stop_words=["rent"])
        put(api, "cars", "synonyms", synonyms=[])
        assert find(api, "cars", "car") == {"a", "c"}
        assert find(api, "cars", "rent show") == {"c"}


def test_typos_are_tolerated_where_a_search_asks_for_it(api: Api, lexical: str) -> None:
    api.upsert(lexical, TEXTS)
    assert find(api, lexical, "autmobile") == set()
    assert find(api, lexical, "autmobile", typo_tolerance=True) == {"b"}
    assert find(api, lexical, "", typo_tolerance=True) == set(TEXTS)


@pytest.mark.parametrize(
    ("part", "values", "reason", "field"),
    [
        ("", {}, "REQUIRED", "update_mask"),
        ("words", {}, "UNKNOWN_VALUE", "update_mask"),
        ("stop_words", {"stop_words": ["a b"]}, "VALUE_OUT_OF_RANGE", "vocabulary.stop_words[0]"),
        ("synonyms", {"synonyms": [{"phrases": ["a"]}]}, "REQUIRED", "vocabulary.synonyms[0]"),
        ("synonyms", {"synonyms": [CARS, CARS]}, "DUPLICATE", "vocabulary.synonyms[1]"),
        (
            "synonyms",
            {"synonyms": [{"phrases": ["a"], "finds": ["b"]}, {"phrases": ["b"], "finds": ["a"]}]},
            "CONFLICTING_FIELDS",
            "vocabulary.synonyms[1]",
        ),
        ("synonyms", {"synonyms": [CARS] * 10_001}, "VALUE_OUT_OF_RANGE", "vocabulary.synonyms"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(
    api: Api, lexical: str, part: str, values: Any, reason: str, field: str
) -> None:
    before = api.collections.GetVocabulary(pb.GetVocabularyRequest(collection=lexical))
    told = refused(api.collections.SetVocabulary, make(lexical, part, **values))
    assert (told.reason, told.field) == (reason, field)
    assert api.collections.GetVocabulary(pb.GetVocabularyRequest(collection=lexical)) == before


def test_an_etag_that_is_not_current_is_refused(api: Api, lexical: str) -> None:
    first = put(api, lexical, "stop_words", stop_words=["a"])
    put(api, lexical, "stop_words", first.etag, stop_words=["b"])
    told = refused(api.collections.SetVocabulary, make(lexical, "stop_words", first.etag, stop_words=["c"]))
    assert told.reason == "ETAG_MISMATCH"
    missing = refused(api.collections.GetVocabulary, pb.GetVocabularyRequest(collection="no-such"))
    assert missing.reason == "COLLECTION_NOT_FOUND"
