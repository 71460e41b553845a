"""The methods of CollectionService that make, list and delete aliases."""

from quarry.collections.collections import Collections
from quarry.documents.aliases import Alias
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import collection_service_pb2_grpc
from quarry_server.common.context import Context
from quarry_server.common.page_tokens import ALIASES
from quarry_server.common.paging import ListPage
from quarry_server.common.values import to_timestamp


class AliasServicer(collection_service_pb2_grpc.CollectionServiceServicer):
    """Aliases; the rest of the service is ``CollectionServicer``'s."""

    _open_collections: Collections

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.SetAliasResponse:
        collection = self._open_collections.find_name(request.collection)
        made, before = await self._open_collections.aliases.set(request.name, collection)
        return pb.SetAliasResponse(current=to_alias_message(made), previous_collection=before)

    async def ListAliases(self, request: pb.ListAliasesRequest, context: Context) -> pb.ListAliasesResponse:
        page = ListPage(ALIASES, request)
        (after,) = page.after or ("",)
        name = self._open_collections.find_name(request.collection) if request.collection else ""
        found = await self._open_collections.aliases.read_page(after, page.size + 1, name)
        messages, token = page.fill(found, lambda one: (one.name,), to_alias_message)
        return pb.ListAliasesResponse(aliases=messages, next_page_token=token)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Context) -> pb.DeleteAliasResponse:
        await self._open_collections.aliases.delete(request.name)
        return pb.DeleteAliasResponse()


def to_alias_message(alias: Alias) -> pb.Alias:
    return pb.Alias(
        name=alias.name,
        collection=alias.collection,
        create_time=to_timestamp(alias.create_time_us),
        update_time=to_timestamp(alias.update_time_us),
    )
