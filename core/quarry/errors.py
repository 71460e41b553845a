"""Everything that can go wrong, as types that know nothing of gRPC.

``quarry_server.common.errors`` holds the one table from these to status codes.
"""

from collections.abc import Mapping, Sequence

MAX_NAMED = 20
"""Names that one message lists."""


class QuarryError(Exception):
    """Base of all errors that Quarry raises on purpose.

    Attributes:
        reason: UPPER_SNAKE_CASE, stable, for programs; unique to the class unless given.
        metadata: the variable parts of the message, for programs.
    """

    reason = "INTERNAL"

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata: Mapping[str, str] = metadata


class InvalidArgumentError(QuarryError):
    """A field of the request is wrong whatever the server's state is.

    Attributes:
        field: path of the field in the request, such as ``documents[3].fields.price``.
    """

    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem, field=field)
        self.field = field
        self.problem = problem

    def move_to(self, field: str) -> "InvalidArgumentError":
        """Returns the same error about another field."""
        error = type(self)(field, self.problem)
        error.reason = self.reason
        return error

    def move_under(self, prefix: str) -> "InvalidArgumentError":
        """Returns the same error about a field that lies below ``prefix``."""
        return self.move_to(f"{prefix}.{self.field}" if self.field else prefix)


class RequiredError(InvalidArgumentError):
    """A field is empty that the request needs."""

    reason = "REQUIRED"


class UnknownFieldError(InvalidArgumentError):
    """The request names a field that the collection does not have."""

    reason = "UNKNOWN_FIELD"


class OutOfRangeError(InvalidArgumentError):
    """A value is too small, too large, too long, or not finite, or there are too many or too few."""

    reason = "VALUE_OUT_OF_RANGE"


class WrongTypeError(InvalidArgumentError):
    """A value is of another type than its field, or a field's type does not allow what is asked of it."""

    reason = "WRONG_TYPE"


class UnknownValueError(InvalidArgumentError):
    """A name or a number is none of those that the field can take."""

    reason = "UNKNOWN_VALUE"


class DuplicateError(InvalidArgumentError):
    """Something that may stand in the request once stands there twice."""

    reason = "DUPLICATE"


class ConflictingFieldsError(InvalidArgumentError):
    """Two fields of the request exclude or contradict each other."""

    reason = "CONFLICTING_FIELDS"


class MalformedError(InvalidArgumentError):
    """Bytes, a file or an archive are not in the format that they should be in."""

    reason = "MALFORMED"


class InvalidTokenError(InvalidArgumentError):
    """A page token, an attribution token or an etag is not one that this server gave for this request."""

    reason = "INVALID_TOKEN"


class QuerySyntaxError(InvalidArgumentError):
    """A query is not in the language that the search asks for.

    Args:
        position: of the character where it goes wrong, from 1.
    """

    reason = "QUERY_SYNTAX"

    def __init__(self, field: str, problem: str, position: int = 0) -> None:
        super().__init__(field, f"at character {position}: {problem}" if position else problem)
        if position:
            self.metadata = {"field": field, "position": str(position)}


class RequestIdReusedError(InvalidArgumentError):
    """The request id was given to another request before."""

    reason = "REQUEST_ID_REUSED"


class NotFoundError(QuarryError):
    """The request names something that does not exist."""

    reason = "NOT_FOUND"


class CollectionNotFoundError(NotFoundError):
    """There is no collection of this name; without a name, it was there when the call began."""

    reason = "COLLECTION_NOT_FOUND"

    def __init__(self, name: str = "") -> None:
        message = f"no collection is called {name!r}" if name else "the collection has been deleted"
        super().__init__(message, collection=name)


class DocumentNotFoundError(NotFoundError):
    reason = "DOCUMENT_NOT_FOUND"

    def __init__(self, document_id: str) -> None:
        super().__init__(f"no document has the id {document_id!r}", document_id=document_id)


class ModelNotFoundError(NotFoundError):
    """No version is called so."""

    reason = "MODEL_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"no model is called {name[:80]!r}", model=name[:80])


class AliasNotFoundError(NotFoundError):
    """No alias is called so."""

    reason = "ALIAS_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"no alias is called {name[:80]!r}", alias=name[:80])


class AlreadyExistsError(QuarryError):
    reason = "ALREADY_EXISTS"


class FailedPreconditionError(QuarryError):
    """The request is fine, the state it needs is not there."""

    reason = "FAILED_PRECONDITION"


class PageExpiredError(FailedPreconditionError):
    reason = "PAGE_EXPIRED"

    def __init__(self) -> None:
        super().__init__("this search's pages are no longer kept: search again")


class ReindexRunningError(FailedPreconditionError):
    """The collection has a reindex or a rollback already."""

    reason = "REINDEX_RUNNING"

    def __init__(self, collection: str, operation: str) -> None:
        super().__init__(
            f"the collection {collection!r} is being reindexed or rolled back already",
            collection=collection,
            operation=operation,
        )


class CollectionHasAliasesError(FailedPreconditionError):
    """A collection cannot go while an alias names it."""

    reason = "COLLECTION_HAS_ALIASES"

    def __init__(self, collection: str, aliases: Sequence[str]) -> None:
        named = ", ".join(aliases[:MAX_NAMED]) + (", ..." if len(aliases) > MAX_NAMED else "")
        super().__init__(
            f"the collection {collection!r} has aliases ({named}): give them to another one, or delete them, "
            "first",
            collection=collection,
            aliases=named,
        )


class UnprovenRerankerError(FailedPreconditionError):
    """No verdict says that a re-ranker is better than what serves."""

    reason = "RERANKER_UNPROVEN"

    def __init__(self, collection: str, model: str, verdict: str = "") -> None:
        said = f"its verdict is {verdict}" if verdict else "it has no verdict"
        super().__init__(
            f"nothing proves that the re-ranker {model!r} is better than what serves {collection}: {said}. "
            "Compare them on judged queries first, or set `unproven`",
            collection=collection,
            model=model,
        )


class DocumentDoesNotFitError(FailedPreconditionError):
    """A stored document has a value that the new schema cannot read."""

    reason = "DOCUMENT_DOES_NOT_FIT"

    def __init__(self, document_id: str, field: str, problem: str) -> None:
        super().__init__(
            f"the document {document_id!r} does not fit the schema: {field}: {problem}",
            document_id=document_id,
            field=field,
        )


class NotCalibratedError(FailedPreconditionError):
    """Probabilities of relevance are asked for, and nothing gives them."""

    reason = "NOT_CALIBRATED"

    def __init__(self, problem: str, model: str = "") -> None:
        super().__init__(
            f"{problem}: train a re-ranker with judged queries (TrainReranker with `judgments`), which "
            "calibrates it if they are enough, and promote it",
            model=model,
        )


class NoVectorsError(FailedPreconditionError):
    """The search compares vectors of documents, and there are none."""

    reason = "NO_VECTORS"

    def __init__(self) -> None:
        super().__init__(
            "the collection has no encoder, and so no vectors to compare: give it one by a reindex"
        )


class NoFeedbackError(FailedPreconditionError):
    """There is no click, or not one that counts, to learn from."""

    reason = "NO_FEEDBACK"

    def __init__(self) -> None:
        super().__init__("nothing was clicked in the feedback asked for: there is nothing to learn from")


class ConflictError(QuarryError):
    """Someone else has written since the etag was read."""

    reason = "ETAG_MISMATCH"


class LimitExceededError(QuarryError):
    """A published limit, or the disk, is exhausted."""

    reason = "LIMIT_EXCEEDED"


class DiskFullError(LimitExceededError):
    reason = "DISK_FULL"


class UnavailableError(QuarryError):
    """A part that the answer needs cannot be reached now; a later try may succeed."""

    reason = "UNAVAILABLE"


class RetrieverUnavailableError(UnavailableError):
    """An arm cannot answer.

    Attributes:
        arm: its name.
    """

    reason = "RETRIEVER_UNAVAILABLE"

    def __init__(self, arm: str, cause: str) -> None:
        super().__init__(f"the {arm} arm is unavailable: {cause}", arm=arm)
        self.arm = arm


class Cancelled(QuarryError):
    """Someone asked for it to stop."""

    reason = "CANCELLED"


class DeadlineExceeded(QuarryError):
    """The caller's time is up, and it asked not to be given part of an answer."""

    reason = "DEADLINE_EXCEEDED"


class DataLossError(QuarryError):
    """Data that was acknowledged is gone, or what is there contradicts itself."""

    reason = "DATA_LOSS"


class FolderContradictionError(DataLossError):
    """The databases of a data folder do not know what the folder holds."""

    reason = "FOLDER_CONTRADICTION"


class ModelDamagedError(DataLossError):
    """A model's files are not what they were when it was registered, or first used."""

    reason = "MODEL_DAMAGED"


class ModelError(QuarryError):
    """A model cannot be found, loaded, exported, or does not give what was asked."""

    reason = "MODEL_UNUSABLE"


KINDS: tuple[type[QuarryError], ...] = (
    InvalidArgumentError,
    NotFoundError,
    AlreadyExistsError,
    FailedPreconditionError,
    ModelError,
    ConflictError,
    LimitExceededError,
    UnavailableError,
    Cancelled,
    DeadlineExceeded,
    DataLossError,
    QuarryError,
)
"""What errors are told apart by where they cross a process; the first that fits names the kind."""
