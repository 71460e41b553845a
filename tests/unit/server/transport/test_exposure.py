import logging
from pathlib import Path
from typing import Any

import pytest

from quarry.client.addresses import is_loopback
from quarry.config import Settings
from quarry.errors import FailedPreconditionError
from quarry_server.transport.exposure import check_exposure, warn_if_exposed

LOOPBACKS = ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]", "::ffff:127.0.0.1"]
ANYWHERE = "0.0.0.0"  # noqa: S104
OPEN = [ANYWHERE, "::", "", "10.0.0.1", "::ffff:10.0.0.1", "a\0b", "é" * 300]
TLS = {"certificate": "c.pem", "key": "c.key"}


def settings(host: str, **values: Any) -> Settings:
    return Settings.model_validate({"data": Path("nowhere"), "host": host, **values})


@pytest.mark.parametrize("host", LOOPBACKS)
def test_what_only_this_machine_reaches_needs_no_warning(host: str, caplog: pytest.LogCaptureFixture) -> None:
    assert is_loopback(host)
    check_exposure(settings(host))
    assert not warn_if_exposed(settings(host), f"{host}:1")
    assert not caplog.records


@pytest.mark.parametrize("host", OPEN)
def test_plaintext_on_what_others_may_reach_is_refused_with_both_ways_on(host: str) -> None:
    with pytest.raises(FailedPreconditionError) as refused:
        check_exposure(settings(host))
    for told in ("--tls-cert", "--insecure"):
        assert told in str(refused.value)
    check_exposure(settings(host, insecure=True))
    check_exposure(settings(host, tls=TLS))


@pytest.mark.parametrize("host", OPEN)
def test_insecure_says_that_others_read_and_change_everything(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert warn_if_exposed(settings(host, insecure=True), f"{ANYWHERE}:50051")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for told in (
        f"{ANYWHERE}:50051",
        "not encrypted",
        "delete",
        "purge",
        "models",
        "127.0.0.1",
        "--tls-cert",
    ):
        assert told in record.getMessage()


def test_tls_without_certificates_of_clients_still_lets_anybody_in(caplog: pytest.LogCaptureFixture) -> None:
    assert warn_if_exposed(settings(ANYWHERE, tls=TLS), f"{ANYWHERE}:50051")
    (record,) = caplog.records
    assert "asks nobody for a key" in record.getMessage()
    assert "--tls-client-ca" in record.getMessage()
    assert "not encrypted" not in record.getMessage()


def test_certificates_of_clients_need_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert not warn_if_exposed(settings(ANYWHERE, tls=TLS | {"client_ca": "ca.pem"}), f"{ANYWHERE}:50051")
    assert not caplog.records
