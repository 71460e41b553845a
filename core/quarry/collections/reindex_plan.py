"""The plan of a reindex: which settings change, and whether the documents allow it."""

import asyncio
from dataclasses import dataclass, replace

from quarry.collections.collections import Collections
from quarry.collections.opening import resolve_settings
from quarry.collections.reindex_cost import ReindexEstimate, estimate
from quarry.documents import log
from quarry.documents.catalog import Collection, PassagePolicy
from quarry.documents.store import Database, DocumentLog
from quarry.documents.view import DocumentView, check_readable, find_changed_fields, make_view
from quarry.errors import FailedPreconditionError, InvalidArgumentError
from quarry.registry.serving import check_own
from quarry.retrieval.registry import find_browsing_arm
from quarry.schema import Schema
from quarry.types import Fields


@dataclass(frozen=True, slots=True)
class Wanted:
    """The settings that are to change; None stays as it is."""

    encoder: str | None = None
    schema: Schema | None = None
    passages: PassagePolicy | None = None

    def apply_to(self, before: Collection) -> Collection:
        """Returns the collection with these settings. Raises InvalidArgumentError if they are out of
        range."""
        given = {k: v for k in ("encoder", "schema", "passages") if (v := getattr(self, k)) is not None}
        after = replace(before, settings=replace(before.settings, **given))
        changed = _compare_schemas(before.settings.schema, after.settings.schema)
        if changed is None:
            return after
        return replace(after, mixed_fields=(before.mixed_fields or frozenset()) | changed)


@dataclass(frozen=True, slots=True)
class ReindexPlan:
    """A reindex that can begin.

    Attributes:
        before: the collection as it was when this was planned.
        after: as it will be.
    """

    before: Collection
    after: Collection
    estimate: ReindexEstimate

    @property
    def reads_differently(self) -> bool:
        """Whether a stored document can mean something else under the new schema."""
        return _compare_schemas(self.before.settings.schema, self.after.settings.schema) is not None


async def plan_reindex(open_collections: Collections, before: Collection, wanted: Wanted) -> ReindexPlan:
    """Checks a reindex, loads its encoder and estimates what it costs; changes nothing.

    Raises:
        FailedPreconditionError: nothing would change, or the encoder is a version that must not serve.
        InvalidArgumentError: the settings contradict each other.
        ModelError: the encoder cannot be loaded.
        DocumentDoesNotFitError: a stored document has a value that the new schema cannot read.
    """
    after = wanted.apply_to(before)
    await asyncio.to_thread(open_collections.database.read, lambda c: check_own(c, after))
    parts = await open_collections.models.load_dense_parts(after.settings)
    after = replace(after, settings=resolve_settings(after.settings, parts))
    if after.settings == before.settings:
        raise FailedPreconditionError(f"{before.settings.name!r} is indexed so already: nothing would change")
    plan = ReindexPlan(before, after, ReindexEstimate(0, 0, 0, 0.0, 0, 0, 0))
    if plan.reads_differently:
        await check_documents(open_collections.database, before, after)
    view = make_view(after.settings.schema, after.mixed_fields)
    documents = DocumentLog(open_collections.database, before.key, view)
    lexical = open_collections.locate_folder(before) / find_browsing_arm().name
    return replace(plan, estimate=await estimate(documents, before.document_count, lexical, parts))


async def check_documents(
    database: Database, before: Collection, after: Collection, checked: int = 0, returning: bool = False
) -> int:
    """Checks that the schema of ``after`` reads all that was written under the one of ``before``.

    Args:
        checked: sequence number up to which that is known.
        returning: as in ``DocumentView.check``.

    Returns:
        The sequence number up to which it is known then.

    Raises:
        DocumentDoesNotFitError: the first document that it does not read.
    """
    view = make_view(after.settings.schema, after.mixed_fields)
    if not isinstance(view, DocumentView):
        return checked

    def check(fields: Fields) -> None:
        view.check(fields, before.settings.schema, returning)

    until, problem = await asyncio.to_thread(
        database.read, lambda c: log.find_first_unfit(c, after.key, checked, check)
    )
    if problem is not None:
        raise problem
    return until


def _compare_schemas(old: Schema, new: Schema) -> frozenset[str] | None:
    """Returns fields that the two schemas read differently; None if they read all alike.

    Raises InvalidArgumentError if no document could tell what a value means.
    """
    try:
        check_readable(old, new)
    except InvalidArgumentError as error:
        raise error.move_under("schema") from None
    changed = find_changed_fields(old, new)
    return changed if changed or old.unknown_fields is not new.unknown_fields else None
