"""ServerService: what this server is, and the limits that it keeps."""

from importlib.metadata import version

from google.protobuf import duration_pb2

from quarry import filters, schema
from quarry.config import MAX_MESSAGE_BYTES, Settings
from quarry.documents import requests
from quarry.feedback.importing.log_imports import MAX_LINE_BYTES
from quarry.jobs.memory_watch import resolve_memory_limit
from quarry.models.sources.hub import MAX_FETCHES
from quarry.ranking import queries, ranges
from quarry.retrieval.registry import ARMS
from quarry.v1 import server_service_pb2 as pb
from quarry.v1 import server_service_pb2_grpc
from quarry_server.collections.documents import MAX_BATCH_DOCUMENTS
from quarry_server.common.context import Context
from quarry_server.common.page_tokens import MAX_TOKEN_BYTES
from quarry_server.feedback.events import MAX_BATCH_EVENTS
from quarry_server.mining.requests import MAX_QUERIES
from quarry_server.search.queries import MAX_PAGE_SIZE, MAX_RETRIEVE_QUERIES
from quarry_server.transport.connections import ConnectionLimits


class ServerServicer(server_service_pb2_grpc.ServerServiceServicer):
    def __init__(self, settings: Settings, device: str, connections: ConnectionLimits) -> None:
        self._info = make_server_info(settings, device, connections)

    async def GetServerInfo(
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.GetServerInfoResponse:
        return self._info


def make_server_info(
    settings: Settings, device: str, connections: ConnectionLimits
) -> pb.GetServerInfoResponse:
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
        max_depth=int(ranges.ARM_DEPTH.most),
        max_filter_conditions=filters.MAX_CONDITIONS,
        max_filter_levels=filters.MAX_LEVELS,
        max_retrieve_queries=MAX_RETRIEVE_QUERIES,
        max_batch_events=MAX_BATCH_EVENTS,
        max_mining_queries=MAX_QUERIES,
        max_hub_fetches=MAX_FETCHES,
        request_id_lifetime=duration_pb2.Duration(seconds=requests.LIFETIME_US // 1_000_000),
    )
    limits.max_page_token_bytes = MAX_TOKEN_BYTES
    _add_upload_limits(limits, settings)
    _add_connection_limits(limits, connections)
    limits.drain_notice.FromMicroseconds(round(settings.drain_notice_s * 1e6))
    limits.hub_timeout.FromMicroseconds(round(settings.models.hub_timeout_s * 1e6))
    limits.behind_after.FromMicroseconds(round(settings.liveness.behind_after_s * 1e6))
    limits.store_restart_after.FromMicroseconds(round(settings.liveness.restart_after_s * 1e6))
    limits.page_lifetime.FromMicroseconds(round(settings.search.page_lifetime_s * 1e6))
    return pb.GetServerInfoResponse(
        version=version("quarry-search"),
        limits=limits,
        default_encoder=settings.models.encoder,
        device=device,
        hub_allowed=settings.models.hub,
        arms=[
            pb.ArmInfo(name=arm.name, weight=arm.weight, lowest=arm.low, highest=arm.high, boosts=arm.boosts)
            for arm in ARMS.values()
        ],
    )


def _add_upload_limits(limits: pb.Limits, settings: Settings) -> None:
    uploads = settings.uploads
    limits.max_archive_bytes = uploads.archive_bytes
    limits.max_archive_files = uploads.archive_files
    limits.max_archive_ratio = uploads.archive_ratio
    limits.max_examples_bytes = uploads.examples_bytes
    limits.max_examples_rows = uploads.examples_rows
    limits.max_examples_text_bytes = uploads.examples_text_bytes
    limits.max_events_bytes = uploads.events_bytes
    limits.max_event_line_bytes = MAX_LINE_BYTES
    limits.job_memory_bytes = resolve_memory_limit(settings.jobs.memory_bytes)
    limits.model_trial_time.FromMicroseconds(round(settings.jobs.trial_s * 1e6))


def _add_connection_limits(limits: pb.Limits, connections: ConnectionLimits) -> None:
    limits.max_connections = connections.most
    limits.connection_idle.FromMicroseconds(round(connections.idle_s * 1e6))
    limits.connection_age.FromMicroseconds(round(connections.age_s * 1e6))
    limits.connection_age_grace.FromMicroseconds(round(connections.age_grace_s * 1e6))
    limits.connection_handshake.FromMicroseconds(round(connections.handshake_s * 1e6))
    limits.max_calls_per_connection = connections.calls
