"""ModelService."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from quarry.collections.collections import Collections
from quarry.collections.promotion import Promotions
from quarry.documents.catalog import Collection
from quarry.errors import FailedPreconditionError
from quarry.models.serving import ServedModels
from quarry.registry.archive import write_archive
from quarry.registry.model_imports import import_archive, import_source, make_scratch_folder
from quarry.registry.store import ModelRegistry
from quarry.registry.unpacking import ArchiveLimits
from quarry.registry.versions import ModelVersion
from quarry.v1 import model_service_pb2 as pb
from quarry.v1 import model_service_pb2_grpc
from quarry.waiting import OngoingWork
from quarry_server.common.context import Context
from quarry_server.common.model_names import RequestedModels
from quarry_server.common.page_tokens import MODELS
from quarry_server.common.paging import ListPage
from quarry_server.models.imports import receive_import
from quarry_server.models.messages import parse_change, to_model_message
from quarry_server.models.rankings import RankingCalls

T = TypeVar("T")
IMPORT_THREADS = 2
"""Imports that are unpacked and tried at once; others wait."""


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(
        self,
        open_collections: Collections,
        registry: ModelRegistry,
        promotions: Promotions,
        models: ServedModels,
        requested: RequestedModels,
        limits: ArchiveLimits,
        rankings: RankingCalls,
    ) -> None:
        self._rankings = rankings
        self._open_collections, self._registry, self._promotions = open_collections, registry, promotions
        self._models, self._requested, self._limits = models, requested, limits
        self._stopping = threading.Event()
        # Of their own, so that imports leave the threads that answer searches alone.
        self._importing = ThreadPoolExecutor(IMPORT_THREADS, "import")
        self._registering = OngoingWork()

    def tidy(self) -> None:
        """Sees to the versions of collections that will be deleted. Called at the start."""

        async def forget_deleted(collection: Collection) -> None:
            self._models.forget_under(self._registry.locate_collection(collection.key))
            await asyncio.to_thread(self._registry.remove_by_collection, collection.key)

        self._open_collections.notify_when_deleted(forget_deleted)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        return pb.GetModelResponse(model=to_model_message(await self._get(request.name)))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        page = ListPage(MODELS, request)
        name = self._open_collections.find_name(request.collection) if request.collection else ""
        found = await asyncio.to_thread(self._registry.read_page, name, page.after, page.size + 1)
        models, token = page.fill(found, lambda v: v.place, partial(to_model_message, report=False))
        return pb.ListModelsResponse(models=models, next_page_token=token)

    async def PromoteModel(
        self, request: pb.PromoteModelRequest, context: Context
    ) -> pb.PromoteModelResponse:
        request_id, note = parse_change(request, "promote-model")
        _, previous = await self._promotions.promote(request.name, note, request_id, request.if_unchanged)
        return pb.PromoteModelResponse(
            model=to_model_message(await self._get(request.name)), previous=previous
        )

    async def RollbackModel(
        self, request: pb.RollbackModelRequest, context: Context
    ) -> pb.RollbackModelResponse:
        request_id, note = parse_change(request, "rollback-model")
        name = self._open_collections.find_name(request.collection)
        serving, previous = await self._promotions.roll_back(name, note, request_id)
        return pb.RollbackModelResponse(serving=serving, previous=previous)

    async def RetireModel(self, request: pb.RetireModelRequest, context: Context) -> pb.RetireModelResponse:
        return pb.RetireModelResponse(model=to_model_message(await self._promotions.retire(request.name)))

    async def ImportModel(
        self, request_iterator: AsyncIterator[pb.ImportModelRequest], context: Context
    ) -> pb.ImportModelResponse:
        with ExitStack() as closing:
            folder = closing.enter_context(make_scratch_folder(self._registry))
            archive = folder / "archive.tar"
            plan = await receive_import(request_iterator, self._open_collections, archive, self._limits.bytes)
            await self._requested.admit(plan.source)
            kept = closing.pop_all()  # from here on it is the task's to remove

            def register() -> ModelVersion:
                with kept:
                    if plan.source:
                        return import_source(self._registry, plan)
                    return import_archive(
                        self._registry, plan, archive, folder, self._limits, self._stopping.is_set
                    )

            version = await self._registering.finish(self._run_in_import_thread(register))
        return pb.ImportModelResponse(model=to_model_message(version))

    async def ExportModel(
        self, request: pb.ExportModelRequest, context: Context
    ) -> AsyncIterator[pb.ExportModelResponse]:
        version = await self._get(request.name)
        folder = await asyncio.to_thread(self._registry.locate_folder, version.name)
        if folder is None:
            raise FailedPreconditionError(f"{version.name} has no files", model=version.name)
        await asyncio.to_thread(self._registry.check, version.name)
        pieces = write_archive(version, folder)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield pb.ExportModelResponse(archive=piece)

    async def GetRanking(self, request: pb.GetRankingRequest, context: Context) -> pb.GetRankingResponse:
        return await self._rankings.get(request)

    async def ListRankings(
        self, request: pb.ListRankingsRequest, context: Context
    ) -> pb.ListRankingsResponse:
        return await self._rankings.list_rankings(request)

    async def PromoteRanking(
        self, request: pb.PromoteRankingRequest, context: Context
    ) -> pb.PromoteRankingResponse:
        return await self._rankings.promote(request)

    async def RollbackRanking(
        self, request: pb.RollbackRankingRequest, context: Context
    ) -> pb.RollbackRankingResponse:
        return await self._rankings.roll_back(request)

    async def _get(self, name: str) -> ModelVersion:
        return await asyncio.to_thread(self._registry.get, name)

    async def _run_in_import_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._importing, work)

    async def close(self) -> None:
        """Stops what is being unpacked, and waits for the imports that are being registered."""
        self._stopping.set()
        await self._registering.wait()
        self._importing.shutdown(wait=False)
