import logging

import pytest

from quarry_server.transport.exposure import is_loopback, warn_if_exposed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]", "::ffff:127.0.0.1"])
def test_what_only_this_machine_reaches_needs_no_warning(host: str, caplog: pytest.LogCaptureFixture) -> None:
    assert is_loopback(host)
    assert not warn_if_exposed(host, f"{host}:1")
    assert not caplog.records


ANYWHERE = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("host", [ANYWHERE, "::", "", "10.0.0.1", "::ffff:10.0.0.1", "a\0b", "é" * 300])
def test_what_others_may_reach_is_announced(host: str, caplog: pytest.LogCaptureFixture) -> None:
    assert warn_if_exposed(host, f"{ANYWHERE}:50051")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for told in (f"{ANYWHERE}:50051", "delete", "purge", "models", "127.0.0.1"):
        assert told in record.getMessage()
