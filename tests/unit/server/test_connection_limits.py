import resource

import pytest

from quarry.config import ConnectionSettings
from quarry_server.transport.connections import (
    choose_connection_limits,
    make_grpc_options,
    raise_descriptor_limit,
)


@pytest.mark.parametrize(
    ("descriptors", "wanted", "most"),
    [(1_024, 4_096, 512), (20_000, 4_096, 4_096), (1_024, 100, 100), (1, 10, 1)],
)
def test_connections_get_half_of_the_descriptors_at_most(descriptors: int, wanted: int, most: int) -> None:
    settings = ConnectionSettings(max_connections=wanted)
    assert choose_connection_limits(settings, descriptors).most == most
    assert choose_connection_limits(settings, resource.RLIM_INFINITY).most == wanted


def test_the_limits_reach_grpc() -> None:
    settings = ConnectionSettings(
        max_connections=7, idle_s=1.5, handshake_s=0.25, max_calls=9, age_s=20, age_grace_s=2.5
    )
    options = dict(make_grpc_options(choose_connection_limits(settings)))
    assert options["grpc.max_allowed_incoming_connections"] == 7
    assert options["grpc.max_connection_idle_ms"] == 1_500
    assert options["grpc.server_handshake_timeout_ms"] == 250
    assert options["grpc.max_concurrent_streams"] == 9
    assert options["grpc.max_connection_age_ms"] == 20_000
    assert options["grpc.max_connection_age_grace_ms"] == 2_500


def test_the_limit_of_descriptors_is_raised_to_what_is_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1_000), hard))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
