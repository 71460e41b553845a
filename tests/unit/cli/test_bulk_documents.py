"""`quarry document`: the condition and the change reach the server, and what it says reaches the caller."""

import pytest

from quarry.v1 import collection_service_pb2, document_service_pb2


@pytest.fixture
def shop(quarry):
    pb = collection_service_pb2
    fields = [
        pb.SchemaField(name="text", type=pb.SCHEMA_FIELD_TYPE_TEXT),
        pb.SchemaField(name="brand", type=pb.SCHEMA_FIELD_TYPE_KEYWORD),
        pb.SchemaField(name="price", type=pb.SCHEMA_FIELD_TYPE_INTEGER),
    ]
    quarry.collections["shop"] = pb.Collection(name="shop", schema=pb.Schema(fields=fields))
    quarry.response = document_service_pb2.UpdateDocumentsByFilterResponse(matched_count=9, updated_count=7)
    return quarry


def test_an_update_sends_condition_and_values_of_the_fields_types(shop, cli):
    values = ["--set", "price=7", "--set", "brand=a", "--set", "brand=b=c", "--unset", "text"]
    ended = cli("document", "update", "shop", "--where", "price<20 and brand in (x, y)", *values, "--yes")
    assert (ended.status, ended.out) == (0, "7 documents changed in shop, of 9 that meet the condition\n")
    request = shop.requests[-1]
    assert (request.collection, list(request.removed_fields)) == ("shop", ["text"])
    assert [one.WhichOneof("condition") for one in request.filter.all_of.filters] == ["range", "one_of"]
    assert request.fields["price"].integer_value == 7
    assert [value.string_value for value in request.fields["brand"].list_value.values] == ["a", "b=c"]
    assert request.request_id


def test_documents_that_could_not_be_changed_are_named(shop, cli):
    shop.response.refused_count = 1
    status = shop.response.refusals.add(id="big").status
    status.code, status.message = 3, "would be too large"
    ended = cli("document", "update", "shop", "--where", "price<20", "--set", "price=7", "--yes", "--json")
    assert ended.status == 1
    assert "big: would be too large" in ended.err
    assert ended.json["refused_count"] == "1"


def test_what_meets_a_condition_is_deleted(shop, cli):
    ended = cli("document", "delete", "shop", "--where", "not exists(price)", "--where", "brand=a", "--yes")
    assert (ended.status, ended.out) == (0, "7 deleted from shop\n")
    request = shop.requests[-1]
    kinds = [one.WhichOneof("condition") for one in request.filter.all_of.filters]
    assert (kinds, bool(request.request_id)) == (["none_of", "equal_to"], True)


@pytest.mark.parametrize("command", [["delete"], ["update", "--set", "price=7"]])
@pytest.mark.parametrize(("answer", "done"), [("y", True), ("n", False), ("", False)])
def test_it_asks_with_the_number_of_documents(shop, cli, command, answer, done):
    ended = cli("document", *command, "shop", "--where", "price<20", input=f"{answer}\n")
    asked = next(request for request in shop.requests if hasattr(request, "unlogged"))
    assert asked.unlogged
    assert asked.filter.range.lt.integer_value == 20
    assert f"{command[0].capitalize().replace('Update', 'Change')} 0 documents of shop?" in ended.err
    assert (ended.status == 0, len(shop.requests) == 2) == (done, done)


@pytest.mark.parametrize(
    "arguments",
    [
        ["delete", "shop", "--yes"],
        ["delete", "shop", "--where", "price<", "--yes"],
        ["update", "shop", "--where", "price<20", "--yes"],
        ["update", "shop", "--set", "price=7", "--yes"],
        ["update", "shop", "--where", "price<20", "--set", "price", "--yes"],
        ["update", "shop", "--where", "price<20", "--set", "price=soon", "--yes"],
    ],
)
def test_a_mistake_of_usage_changes_nothing(shop, cli, arguments):
    ended = cli("document", *arguments)
    assert (ended.status, ended.out, shop.requests) == (2, "", [])
