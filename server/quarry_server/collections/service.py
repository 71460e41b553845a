"""CollectionService."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from google.longrunning import operations_pb2

from quarry.collections.collection_handle import CollectionHandle
from quarry.collections.collections import Collections
from quarry.deadline import Deadline
from quarry.documents.catalog import read_now_us
from quarry.errors import InvalidArgumentError, RequiredError, UnknownValueError
from quarry.jobs.operations import Operations
from quarry.ranking.cascade import Cascade
from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.v1 import collection_service_pb2 as pb
from quarry_server.collections.aliases import AliasServicer
from quarry_server.collections.messages import (
    parse_promotion,
    parse_settings,
    to_arm_messages,
    to_collection_message,
    to_consistency_message,
)
from quarry_server.collections.reindex import ReindexJobs, ReindexServicer
from quarry_server.collections.vocabularies import VocabularyServicer
from quarry_server.common.context import Context, resolve_deadline
from quarry_server.common.model_names import RequestedModels, list_names
from quarry_server.common.operations import Tell, start_operation
from quarry_server.common.page_tokens import COLLECTIONS
from quarry_server.common.paging import ListPage
from quarry_server.common.request_ids import parse_request_id
from quarry_server.common.values import parse_etag, to_timestamp
from quarry_server.search.queries import parse_cascade

UPDATABLE = ("reranker", "cascade", "promotion", "description")


class CollectionServicer(ReindexServicer, AliasServicer, VocabularyServicer):
    def __init__(
        self,
        open_collections: Collections,
        operations: Operations,
        reindexes: ReindexJobs,
        requested: RequestedModels,
        default_encoder: str,
        default_deadline_s: float,
    ) -> None:
        super().__init__(open_collections, reindexes, requested)
        self._operations = operations
        self._default_encoder = default_encoder
        self._default_deadline_s = default_deadline_s

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: Context
    ) -> pb.CreateCollectionResponse:
        request_id = parse_request_id(request.request_id, "create-collection", request)
        try:
            settings = parse_settings(request.collection, self._default_encoder)
        except InvalidArgumentError as error:
            raise error.move_under("collection") from None
        await self._requested.admit(settings.encoder, *settings.rerankers)
        created = await self._open_collections.create(settings, request_id)
        return pb.CreateCollectionResponse(collection=await self._to_message(created))

    async def GetCollection(
        self, request: pb.GetCollectionRequest, context: Context
    ) -> pb.GetCollectionResponse:
        with self._open_collections.use(request.name) as opened:
            return pb.GetCollectionResponse(collection=await self._to_message(opened))

    async def ListCollections(
        self, request: pb.ListCollectionsRequest, context: Context
    ) -> pb.ListCollectionsResponse:
        page = ListPage(COLLECTIONS, request)
        (after,) = page.after or ("",)
        found = await self._open_collections.read_page(after, page.size + 1)
        messages, token = page.fill(found, lambda one: (one.settings.name,), to_collection_message)
        return pb.ListCollectionsResponse(collections=messages, next_page_token=token)

    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, context: Context
    ) -> pb.UpdateCollectionResponse:
        paths = list(request.update_mask.paths)
        for path in paths or [""]:
            if path not in UPDATABLE:
                kind = UnknownValueError if path else RequiredError
                raise kind("update_mask", f"{path[:80]!r} is not one of {', '.join(UPDATABLE)}")
        with self._open_collections.use(request.collection.name) as opened:
            name = opened.row.settings.name
            try:
                values = {path: _parse_value(request.collection, path) for path in paths}
                revision = parse_etag(request.collection.etag)
                await self._admit_changes(name, values)
                updated = await self._open_collections.update(
                    name, revision, values, unproven=request.unproven
                )
            except InvalidArgumentError as error:
                raise error.move_under("collection") from None
            return pb.UpdateCollectionResponse(collection=await self._to_message(updated))

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: Context
    ) -> pb.DeleteCollectionResponse:
        name = self._open_collections.find_name(request.name)
        await self._open_collections.delete(name, parse_etag(request.etag))
        return pb.DeleteCollectionResponse()

    async def CheckConsistency(
        self, request: pb.CheckConsistencyRequest, context: Context
    ) -> pb.CheckConsistencyResponse:
        deadline = resolve_deadline(context, self._default_deadline_s)
        with self._open_collections.use(request.name) as opened:
            return to_consistency_message(await opened.check(deadline))

    async def RepairCollection(
        self, request: pb.RepairCollectionRequest, context: Context
    ) -> operations_pb2.Operation:
        name = self._open_collections.find_name(request.name)
        metadata = pb.RepairCollectionMetadata(
            collection=name, start_time=to_timestamp(read_now_us()), progress=0.0
        )

        async def repair(tell: Tell) -> pb.RepairCollectionResponse:
            found, after = await self._open_collections.repair(name, Deadline())
            metadata.progress = 1.0
            await tell()
            return pb.RepairCollectionResponse(
                found=to_consistency_message(found), after=to_consistency_message(after)
            )

        return await start_operation(self._operations, "repair", metadata, repair)

    async def _admit_changes(self, name: str, values: Mapping[str, Any]) -> None:
        """Raises as ``RequestedModels.admit``, or InvalidArgumentError for values that are none."""
        current = await self._open_collections.read_current(name)
        changed = replace(current.settings, **values)
        await self._requested.admit(*changed.rerankers, known=list_names(current))

    async def _to_message(self, opened: CollectionHandle) -> pb.Collection:
        """Reads the collection with its status; counts are read from the log."""
        current = await self._open_collections.read_current(opened.row.settings.name)
        message = to_collection_message(current)
        message.reranker_unproven = await self._open_collections.is_unproven(current)
        message.aliases.extend(self._open_collections.aliases.list_of(current.settings.name))
        status = message.status
        status.read_only_reason = str(opened.read_only or "")
        status.arms.extend(to_arm_messages(opened.generation))
        await self._reindexes.add_status(opened, status)
        return message


def _parse_value(collection: pb.Collection, path: str) -> str | Cascade | PromotionPolicy | None:
    match path:
        case "cascade":
            return parse_cascade(collection.cascade)
        case "promotion":
            return parse_promotion(collection.promotion)
        case _:
            return str(getattr(collection, path))
