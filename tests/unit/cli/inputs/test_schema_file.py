"""Schema files become Schema messages; mistakes are named with the key they are at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.v1 import collection_service_pb2 as pb
from quarry_cli.failures import CliError
from quarry_cli.inputs.schema_file import FIELD_KEYS, read_schema, to_schema_message

TOML = """
unknown_fields = "store"
fields = [
    {name = "headline", type = "text", is_title = true, boost = 2},
    {name = "lang", type = "keyword"},
    {name = "body", type = "TEXT", searchable = false, language = "de"},
]
"""
JSON = """{"unknown_fields": "store", "fields": [
    {"name": "headline", "type": "text", "is_title": true, "boost": 2},
    {"name": "lang", "type": "keyword"},
    {"name": "body", "type": "text", "searchable": false, "language": "de"}]}"""
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_toml_and_json_say_the_same(tmp_path):
    (tmp_path / "s.toml").write_text(TOML)
    (tmp_path / "s.json").write_text(JSON)
    schema = read_schema(tmp_path / "s.toml")
    assert schema == read_schema(tmp_path / "s.json")
    assert schema == pb.Schema(
        unknown_fields=pb.UNKNOWN_FIELDS_STORE,
        fields=[
            pb.SchemaField(name="headline", type=pb.SCHEMA_FIELD_TYPE_TEXT, is_title=True, boost=2),
            pb.SchemaField(name="lang", type=pb.SCHEMA_FIELD_TYPE_KEYWORD),
            pb.SchemaField(name="body", type=pb.SCHEMA_FIELD_TYPE_TEXT, searchable=False, language="de"),
        ],
    )


def test_what_is_not_said_is_left_to_the_server():
    schema = to_schema_message({"fields": [{"name": "a", "type": "text"}]})
    assert schema.unknown_fields == pb.UNKNOWN_FIELDS_UNSPECIFIED
    assert not schema.fields[0].HasField("boost")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"feilds": []}, "feilds: is not a key of a schema; did you mean fields?"),
        ({"fields": [{"nam": "a"}]}, "fields[0].nam: is not a key of a field; did you mean name?"),
        (
            {"fields": [{"name": "a", "type": "keywrd"}]},
            "fields[0].type: is 'keywrd', not one of text, keyword",
        ),
        (
            {"fields": [{"name": "a", "type": "text", "boost": True}]},
            "fields[0].boost: is True, not a number",
        ),
        ({"fields": [{"name": "a"}]}, "fields[0].type: is missing"),
        ({"fields": [], "unknown_fields": "sotre"}, "did you mean store?"),
        ({}, "fields: is not a list of fields"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_the_nearest_known_one(content, said):
    with pytest.raises(ValueError) as raised:
        to_schema_message(content)
    assert said in str(raised.value)


FIELD = st.dictionaries(st.sampled_from(list(FIELD_KEYS)) | st.text(), JSON_VALUES)


@given(JSON_VALUES | st.fixed_dictionaries({"fields": st.lists(FIELD, max_size=3)}))
def test_any_content_is_a_schema_or_a_named_mistake(content):
    try:
        to_schema_message(content)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("name", "text"), [("s.toml", "fields = ["), ("s.json", "{"), ("s.json", "[" * 100_000)]
)
def test_a_file_that_is_no_toml_or_json_is_an_error(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(CliError, match="is not"):
        read_schema(tmp_path / name)
