"""ServerService: what this server is, and the limits that it keeps."""

from importlib.metadata import version

from google.protobuf import duration_pb2

from quarry import filters, queries, schema
from quarry.config import MAX_MESSAGE_BYTES, Settings
from quarry.documents import requests
from quarry.v1 import server_service_pb2 as pb
from quarry.v1 import server_service_pb2_grpc
from quarry_server.context import Context
from quarry_server.documents import MAX_BATCH_DOCUMENTS
from quarry_server.events import MAX_BATCH_EVENTS
from quarry_server.mining_requests import MAX_QUERIES
from quarry_server.queries import MAX_RETRIEVE_QUERIES
from quarry_server.search import MAX_PAGE_SIZE


class ServerServicer(server_service_pb2_grpc.ServerServiceServicer):
    def __init__(self, settings: Settings, device: str) -> None:
        self._info = server_info(settings, device)

    async def GetServerInfo(
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.GetServerInfoResponse:
        return self._info


def server_info(settings: Settings, device: str) -> pb.GetServerInfoResponse:
    limits = pb.Limits(
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_batch_documents=MAX_BATCH_DOCUMENTS,
        max_document_bytes=schema.MAX_DOCUMENT_BYTES,
        max_id_bytes=schema.MAX_ID_BYTES,
        max_keyword_bytes=schema.MAX_KEYWORD_BYTES,
        max_values_per_field=schema.MAX_VALUES_PER_FIELD,
        max_fields=schema.MAX_FIELDS,
        max_query_bytes=queries.MAX_QUERY_BYTES,
        max_page_size=MAX_PAGE_SIZE,
        max_depth=queries.MAX_DEPTH,
        max_filter_conditions=filters.MAX_CONDITIONS,
        max_filter_levels=filters.MAX_LEVELS,
        max_retrieve_queries=MAX_RETRIEVE_QUERIES,
        max_batch_events=MAX_BATCH_EVENTS,
        max_mining_queries=MAX_QUERIES,
        request_id_lifetime=duration_pb2.Duration(seconds=requests.LIFETIME_US // 1_000_000),
    )
    limits.behind_after.FromMicroseconds(round(settings.liveness.behind_after_s * 1e6))
    limits.store_restart_after.FromMicroseconds(round(settings.liveness.restart_after_s * 1e6))
    limits.page_lifetime.FromMicroseconds(round(settings.search.page_lifetime_s * 1e6))
    return pb.GetServerInfoResponse(
        version=version("quarry-search"),
        limits=limits,
        default_encoder=settings.models.encoder,
        device=device,
    )
