"""Whether a collection can be indexed in another way, and what that will cost."""

import asyncio
from dataclasses import dataclass, replace

from quarry.collections.library import Library
from quarry.collections.opening import resolved
from quarry.collections.reindex_cost import Estimate, estimate
from quarry.documents import log
from quarry.documents.catalog import Collection, PassagePolicy
from quarry.documents.store import Database, DocumentLog
from quarry.documents.view import DocumentView, changed_fields, check_readable, view_of
from quarry.errors import FailedPreconditionError, InvalidArgumentError
from quarry.registry.serving import check_own
from quarry.retrieval.registry import browsing_arm
from quarry.schema import Schema
from quarry.types import Fields


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to change; None stays as it is."""

    encoder: str | None = None
    schema: Schema | None = None
    passages: PassagePolicy | None = None

    def applied(self, before: Collection) -> Collection:
        """The collection with these settings. Raises InvalidArgumentError if they are out of range."""
        given = {k: v for k in ("encoder", "schema", "passages") if (v := getattr(self, k)) is not None}
        after = replace(before, settings=replace(before.settings, **given))
        changed = _changed(before.settings.schema, after.settings.schema)
        if changed is None:
            return after
        return replace(after, mixed_fields=(before.mixed_fields or frozenset()) | changed)


@dataclass(frozen=True, slots=True)
class Plan:
    """A reindex that can begin.

    Attributes:
        before: the collection as it was when this was planned.
        after: as it will be.
    """

    before: Collection
    after: Collection
    estimate: Estimate

    @property
    def reads_differently(self) -> bool:
        """Whether a stored document can mean something else under the new schema."""
        return _changed(self.before.settings.schema, self.after.settings.schema) is not None


async def plan_reindex(library: Library, before: Collection, wanted: Wanted) -> Plan:
    """Checks a reindex, loads its encoder and estimates what it costs; changes nothing.

    Raises:
        FailedPreconditionError: nothing would change, or the encoder is a version that must not serve.
        InvalidArgumentError: the settings contradict each other.
        ModelError: the encoder cannot be loaded.
        DocumentDoesNotFitError: a stored document has a value that the new schema cannot read.
    """
    after = wanted.applied(before)
    await asyncio.to_thread(library.database.read, lambda c: check_own(c, after))
    parts = await library.models.dense_parts(after.settings)
    after = replace(after, settings=resolved(after.settings, parts))
    if after.settings == before.settings:
        raise FailedPreconditionError(f"{before.settings.name!r} is indexed so already: nothing would change")
    plan = Plan(before, after, Estimate(0, 0, 0, 0.0, 0, 0, 0))
    if plan.reads_differently:
        await check_documents(library.database, before, after)
    view = view_of(after.settings.schema, after.mixed_fields)
    documents = DocumentLog(library.database, before.key, view)
    lexical = library.folder_of(before) / browsing_arm().name
    return replace(plan, estimate=await estimate(documents, before.document_count, lexical, parts))


async def check_documents(
    database: Database, before: Collection, after: Collection, checked: int = 0, returning: bool = False
) -> int:
    """Whether the schema of ``after`` reads all that was written under the one of ``before``.

    Args:
        checked: sequence number up to which that is known.
        returning: as in ``DocumentView.check``.

    Returns:
        The sequence number up to which it is known then.

    Raises:
        DocumentDoesNotFitError: the first document that it does not read.
    """
    view = view_of(after.settings.schema, after.mixed_fields)
    if not isinstance(view, DocumentView):
        return checked

    def check(fields: Fields) -> None:
        view.check(fields, before.settings.schema, returning)

    until, problem = await asyncio.to_thread(
        database.read, lambda c: log.first_unfit(c, after.key, checked, check)
    )
    if problem is not None:
        raise problem
    return until


def _changed(old: Schema, new: Schema) -> frozenset[str] | None:
    """Fields that the two schemas read differently; None if they read all alike.

    Raises InvalidArgumentError if no document could tell what a value means.
    """
    try:
        check_readable(old, new)
    except InvalidArgumentError as error:
        raise error.under("schema") from None
    changed = changed_fields(old, new)
    return changed if changed or old.unknown_fields is not new.unknown_fields else None
