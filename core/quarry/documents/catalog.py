"""The catalog of collections: their settings, and the row that hands out their sequence numbers."""

import dataclasses
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from quarry.documents.aliases import refuse_alias, refuse_aliased, refuse_taken
from quarry.documents.tables import collections, deleted_collections, documents, requests, side_generations
from quarry.errors import (
    CollectionNotFoundError,
    ConflictError,
    InvalidArgumentError,
    OutOfRangeError,
)
from quarry.ranking.cascade import OWN, Cascade, RerankStage, check_usual
from quarry.ranking.names import make_ranking_name
from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.ranking.ranking_configuration import ServedRanking
from quarry.schema import Field, FieldType, Schema, UnknownFields
from quarry.types import Docno
from quarry.vocabulary import SynonymRule, Vocabulary

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
NO_ENCODER = "none"
MAX_DESCRIPTION_BYTES = 1_024
MAX_MODEL_NAME_BYTES = 1_024
MIN_PASSAGE_TOKENS = 32
DEFAULT_OVERLAP_TOKENS = 64


def check_name(name: str) -> None:
    """Raises InvalidArgumentError unless a collection or an alias can be called so."""
    if not NAME.fullmatch(name):
        raise InvalidArgumentError(
            "name", f"{name[:80]!r} is not 1 to 64 of a-z, 0-9, _ and -, starting with a letter or digit"
        )


@dataclass(frozen=True, slots=True)
class PassagePolicy:
    """The rules by which documents are cut for the encoder.

    Attributes:
        max_tokens: longest passage, special tokens included; 0 means the encoder's own limit.
        overlap_tokens: at most so many tokens, in whole sentences, are repeated from the passage before.
        first_only: only the first passage is encoded.

    Raises:
        InvalidArgumentError: out of range.
    """

    max_tokens: int = 0
    overlap_tokens: int = DEFAULT_OVERLAP_TOKENS
    first_only: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens and self.max_tokens < MIN_PASSAGE_TOKENS:
            raise OutOfRangeError("max_tokens", f"{self.max_tokens} is under {MIN_PASSAGE_TOKENS}")
        if self.overlap_tokens < 0 or (self.max_tokens and self.overlap_tokens * 2 >= self.max_tokens):
            raise OutOfRangeError("overlap_tokens", "is negative, or not under half of max_tokens")


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """The settings that a collection is made with.

    Attributes:
        encoder: a model's name, or ``NO_ENCODER`` for a collection without a dense arm.
        reranker: a model's name, or empty for none.
        cascade: how the re-ranker works together with others; empty for it alone.
        promotion: of re-rankers that are proven better; None: as the server has it.
        vocabulary: its synonyms and stop words, checked; None for none.

    Raises:
        InvalidArgumentError: the name has other characters than it may, a text is too long, or the cascade
            is none.
    """

    name: str
    schema: Schema
    encoder: str
    reranker: str = ""
    passages: PassagePolicy = PassagePolicy()
    description: str = ""
    cascade: Cascade = ()
    promotion: PromotionPolicy | None = None
    vocabulary: Vocabulary | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        for attribute, limit in [
            ("description", MAX_DESCRIPTION_BYTES),
            ("encoder", MAX_MODEL_NAME_BYTES),
            ("reranker", MAX_MODEL_NAME_BYTES),
        ]:
            if len(getattr(self, attribute).encode()) > limit:
                raise OutOfRangeError(attribute, f"is longer than {limit} bytes")
        check_usual(self.cascade)
        for number, stage in enumerate(self.cascade):
            if len(stage.model.encode()) > MAX_MODEL_NAME_BYTES:
                problem = f"is longer than {MAX_MODEL_NAME_BYTES} bytes"
                raise OutOfRangeError(f"cascade[{number}].model", problem)

    @property
    def rerankers(self) -> frozenset[str]:
        """The names of all models that re-rank by default."""
        return frozenset({self.reranker, *(stage.model for stage in self.cascade)} - {OWN})


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as it is now.

    Attributes:
        key: names it in other tables; never reused, not even after deletion.
        generation: which index serves it.
        last_sequence: sequence number of its last write.
        document_count: documents that exist.
        revision: counts changes of settings; the etag.
        create_time_us: microseconds since 1970, as ``update_time_us``.
        mixed_fields: names of the fields of which the log may hold values of several schemas; None if the
            schema has never changed.
        ranking: how arms are asked and merged; None: by the defaults.
    """

    key: int
    settings: CollectionSettings
    generation: str
    last_sequence: int
    document_count: int
    revision: int
    create_time_us: int
    update_time_us: int
    mixed_fields: frozenset[str] | None = None
    ranking: ServedRanking | None = None

    @property
    def ranking_name(self) -> str:
        """The name of the ranking configuration that serves; empty: the defaults do."""
        return "" if self.ranking is None else make_ranking_name(self.settings.name, self.ranking.number)


def create_collection(connection: sa.Connection, settings: CollectionSettings) -> Collection:
    """Raises AlreadyExistsError if a collection or an alias has the name."""
    refuse_taken(connection, settings.name)
    refuse_alias(connection, settings.name)
    now = read_now_us()
    connection.execute(
        sa.insert(collections).values(
            name=settings.name,
            schema=dump_schema(settings.schema),
            passages=dataclasses.asdict(settings.passages),
            encoder=settings.encoder,
            reranker=settings.reranker,
            description=settings.description,
            generation=uuid.uuid4().hex,
            last_sequence=0,
            document_count=0,
            revision=1,
            create_time_us=now,
            update_time_us=now,
            cascade=dump_cascade(settings.cascade),
            promotion=settings.promotion,
            vocabulary=dump_vocabulary(settings.vocabulary),
        )
    )
    return get_collection(connection, settings.name)


def get_collection(connection: sa.Connection, name: str) -> Collection:
    """Raises CollectionNotFoundError."""
    row = connection.execute(sa.select(collections).where(collections.c.name == name)).first()
    if row is None:
        raise CollectionNotFoundError(name)
    return _from_row(row)


def read_collection_by_key(connection: sa.Connection, key: int) -> Collection:
    """Raises CollectionNotFoundError if it was deleted meanwhile."""
    row = connection.execute(sa.select(collections).where(collections.c.id == key)).first()
    if row is None:
        raise CollectionNotFoundError
    return _from_row(row)


def find_collection_of(connection: sa.Connection, docno: Docno) -> Collection | None:
    """Finds the collection that a document was written to; None if the log does not know the document."""
    of_document = sa.select(documents.c.collection_id).where(documents.c.docno == docno)
    row = connection.execute(sa.select(collections).where(collections.c.id.in_(of_document))).first()
    return None if row is None else _from_row(row)


def list_collections(
    connection: sa.Connection, after: str = "", limit: int | None = None
) -> list[Collection]:
    """Lists collections by name, those whose name is greater than ``after``."""
    query = sa.select(collections).where(collections.c.name > after).order_by(collections.c.name).limit(limit)
    return [_from_row(row) for row in connection.execute(query)]


def update_collection(
    connection: sa.Connection, name: str, revision: int | None, **values: Any
) -> Collection:
    """Sets ``reranker``, ``cascade``, ``promotion``, ``description`` and ``vocabulary``.

    Raises:
        ConflictError: ``revision`` is not the current one.
        InvalidArgumentError: as ``CollectionSettings``.
    """
    current = get_collection(connection, name)
    if revision is not None and revision != current.revision:
        raise ConflictError(f"the collection {name!r} has changed since", collection=name)
    dataclasses.replace(current.settings, **values)  # only to check the values
    if "cascade" in values:
        values["cascade"] = dump_cascade(values["cascade"])
    if "vocabulary" in values:
        values["vocabulary"] = dump_vocabulary(values["vocabulary"])
    connection.execute(
        sa.update(collections)
        .where(collections.c.id == current.key)
        .values(**values, revision=current.revision + 1, update_time_us=read_now_us())
    )
    return get_collection(connection, name)


def set_ranking(connection: sa.Connection, key: int, ranking: ServedRanking | None) -> None:
    """Makes a ranking configuration serve; None: the defaults."""
    revised = {"revision": collections.c.revision + 1, "update_time_us": read_now_us()}
    value = None if ranking is None else ranking.model_dump(mode="json")
    connection.execute(sa.update(collections).where(collections.c.id == key).values(ranking=value, **revised))


def delete_collection(connection: sa.Connection, name: str, revision: int | None) -> Collection:
    """Removes the collection and its documents, and notes that this was on purpose; returns what it was.

    Raises:
        ConflictError: ``revision`` is not the current one.
        CollectionHasAliasesError: an alias names it.
    """
    current = get_collection(connection, name)
    if revision is not None and revision != current.revision:
        raise ConflictError(f"the collection {name!r} has changed since", collection=name)
    refuse_aliased(connection, name)
    connection.execute(sa.delete(documents).where(documents.c.collection_id == current.key))
    # From "7/" to "70", for "0" comes right after "/": a range reads the index, and LIKE reads every row.
    own = requests.c.scope >= f"{current.key}/", requests.c.scope < f"{current.key}0"
    connection.execute(sa.delete(requests).where(*own))
    connection.execute(sa.delete(side_generations).where(side_generations.c.collection_id == current.key))
    connection.execute(sa.delete(collections).where(collections.c.id == current.key))
    connection.execute(
        sa.insert(deleted_collections).values(key=current.key, name=name, delete_time_us=read_now_us())
    )
    return current


def read_deleted_keys(connection: sa.Connection) -> set[int]:
    """Reads the keys of the collections that were deleted on purpose.

    What else belongs to such a key may be deleted. A key that no row knows at all proves nothing.
    """
    return set(connection.execute(sa.select(deleted_collections.c.key)).scalars())


def set_generation(connection: sa.Connection, key: int) -> str:
    """Gives the collection a new, empty generation; returns its name."""
    generation = uuid.uuid4().hex
    connection.execute(sa.update(collections).where(collections.c.id == key).values(generation=generation))
    return generation


def read_now_us() -> int:
    """Reads microseconds since 1970."""
    return time.time_ns() // 1_000


def dump_schema(schema: Schema) -> dict[str, Any]:
    return dataclasses.asdict(schema)


def load_schema(value: dict[str, Any]) -> Schema:
    fields = tuple(Field(**{**field, "type": FieldType(field["type"])}) for field in value["fields"])
    return Schema(fields, UnknownFields(value["unknown_fields"]))


def dump_cascade(cascade: Cascade) -> list[dict[str, Any]]:
    return [dataclasses.asdict(stage) for stage in cascade]


def load_cascade(value: list[dict[str, Any]]) -> Cascade:
    return tuple(RerankStage(**stage) for stage in value)


def dump_vocabulary(vocabulary: Vocabulary | None) -> dict[str, Any] | None:
    return None if vocabulary is None else dataclasses.asdict(vocabulary)


def load_vocabulary(value: dict[str, Any] | None) -> Vocabulary | None:
    if value is None:
        return None
    rules = (SynonymRule(tuple(rule["phrases"]), tuple(rule["finds"])) for rule in value["synonyms"])
    return Vocabulary(tuple(rules), tuple(value["stop_words"]))


def _from_row(row: Any) -> Collection:
    settings = CollectionSettings(
        row.name,
        load_schema(row.schema),
        row.encoder,
        row.reranker,
        PassagePolicy(**row.passages),
        row.description,
        load_cascade(row.cascade),
        None if row.promotion is None else PromotionPolicy(row.promotion),
        load_vocabulary(row.vocabulary),
    )
    return Collection(
        row.id,
        settings,
        row.generation,
        row.last_sequence,
        row.document_count,
        row.revision,
        row.create_time_us,
        row.update_time_us,
        None if row.mixed_fields is None else frozenset(row.mixed_fields),
        None if row.ranking is None else ServedRanking.model_validate(row.ranking),
    )
