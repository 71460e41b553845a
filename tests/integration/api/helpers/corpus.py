"""A seeded collection that the tests of searches only read."""

from collections.abc import Mapping
from random import Random

from tests.integration.api.helpers.served import Value

from quarry.schema import Field, FieldType, Schema
from quarry.v1 import collection_service_pb2, types_pb2

SIZE = 120
WORDS = [f"{a}{b}" for a in ("ba", "de", "fi", "go", "lu", "ma") for b in ("rata", "neli", "sopu", "tige")]
TAGS = ["a", "b", "é", ""]
SCHEMA = Schema(
    (
        Field("title", FieldType.TEXT, is_title=True),
        Field("text", FieldType.TEXT),
        Field("tag", FieldType.KEYWORD),
        Field("count", FieldType.INTEGER),
        Field("price", FieldType.FLOAT),
        Field("sale", FieldType.BOOLEAN),
    )
)

SCHEMA_MESSAGE = collection_service_pb2.Schema(
    fields=[
        collection_service_pb2.SchemaField(name="title", type=collection_service_pb2.SCHEMA_FIELD_TYPE_TEXT),
        collection_service_pb2.SchemaField(name="text", type=collection_service_pb2.SCHEMA_FIELD_TYPE_TEXT),
        collection_service_pb2.SchemaField(name="tag", type=collection_service_pb2.SCHEMA_FIELD_TYPE_KEYWORD),
        collection_service_pb2.SchemaField(
            name="count", type=collection_service_pb2.SCHEMA_FIELD_TYPE_INTEGER
        ),
        collection_service_pb2.SchemaField(name="price", type=collection_service_pb2.SCHEMA_FIELD_TYPE_FLOAT),
        collection_service_pb2.SchemaField(
            name="sale", type=collection_service_pb2.SCHEMA_FIELD_TYPE_BOOLEAN
        ),
    ]
)


def seeded_documents(seed: int = 0, size: int = SIZE) -> dict[str, Mapping[str, Value]]:
    """Documents by id; one in four lacks each field but the text, one in eight has several values."""
    random = Random(seed)
    documents: dict[str, Mapping[str, Value]] = {}
    for number in range(size):
        fields: dict[str, Value] = {"text": " ".join(random.choices(WORDS, k=random.randint(3, 60)))}
        if random.random() < 0.75:
            fields["title"] = " ".join(random.choices(WORDS, k=3))
        if random.random() < 0.75:
            fields["tag"] = random.choice(TAGS) if random.random() < 0.7 else random.choices(TAGS, k=2)
        if random.random() < 0.75:
            count = random.choice([random.randint(-3, 3), [random.randint(-3, 3) for _ in range(2)]])
            fields["count"] = count
        if random.random() < 0.75:
            fields["price"] = random.choice([0.0, 0.5, -1.5, 1e300])
        if random.random() < 0.75:
            fields["sale"] = random.random() < 0.5
        documents[f"d{number:03}"] = fields
    return documents


def equals(field: str, value: types_pb2.FieldValue) -> types_pb2.Filter:
    return types_pb2.Filter(equal_to=types_pb2.EqualToFilter(field=field, value=value))
