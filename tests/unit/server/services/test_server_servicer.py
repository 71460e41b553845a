"""ServerService, health and reflection: what a client can learn of a server before it asks for anything."""

import grpc
from grpc_health.v1 import health_pb2
from tests.integration.api.helpers.served import CALL_S, Api, failure

from quarry.config import MAX_MESSAGE_BYTES
from quarry.v1 import search_service_pb2
from quarry.v1 import server_service_pb2 as pb
from quarry_server.startup.services import SERVICES


def test_a_server_says_what_it_is_and_which_limits_it_keeps(api: Api) -> None:
    found = api.server.GetServerInfo(pb.GetServerInfoRequest(), timeout=CALL_S)
    assert (found.device, found.hub_allowed, found.default_encoder) == ("cpu", False, "/nowhere")
    limits = found.limits
    assert (limits.max_message_bytes, limits.max_batch_documents) == (MAX_MESSAGE_BYTES, 10_000)
    assert limits.page_lifetime.seconds > 0
    assert limits.max_connections > 0
    assert limits.job_memory_bytes > 0


def test_every_service_is_healthy(api: Api) -> None:
    for service in ["", *SERVICES]:
        request = health_pb2.HealthCheckRequest(service=service)
        assert api.health.Check(request, timeout=CALL_S).status == health_pb2.HealthCheckResponse.SERVING


def test_bytes_that_are_no_message_and_a_deadline_that_has_passed_are_typed_errors(
    api: Api, faq: str
) -> None:
    call = api.channel.unary_unary("/quarry.v1.SearchService/Search")
    try:
        call(b"\xff\xff", timeout=CALL_S)
        raise AssertionError("it was answered")
    except grpc.RpcError as error:
        assert failure(error).code is grpc.StatusCode.INVALID_ARGUMENT
    try:
        api.searches.Search(search_service_pb2.SearchRequest(collection=faq), timeout=0)
        raise AssertionError("it was answered")
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
