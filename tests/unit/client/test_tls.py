"""The certificates of a client, and what it says of connections that TLS prevents."""

from pathlib import Path

import grpc
import pytest

from quarry.client import AsyncClient, Client, QuarryCallError, Tls
from quarry.client.addresses import LONGEST_PATH_BYTES, find_path_problem, write_grpc_target
from quarry.client.tls import explain_connection

PREFIX = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "


def unavailable(message: str) -> QuarryCallError:
    return QuarryCallError(grpc.StatusCode.UNAVAILABLE, message, retryable=True)


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_a_certificate_and_its_key_go_together(missing: str) -> None:
    pair = {"certificate": "c.pem", "key": "c.key"} | {missing: None}
    with pytest.raises(ValueError, match="go together"):
        Tls(**pair)


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "zero byte"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ca.pem"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    with pytest.raises(ValueError, match="ca: ") as refused:
        Client("127.0.0.1:1", tls=Tls(ca="a\0b" if kind == "zero byte" else path))
    assert "\n" not in str(refused.value)


async def test_the_asynchronous_client_refuses_the_same(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        AsyncClient("127.0.0.1:1", tls=Tls(ca=tmp_path / "none"))
    with pytest.raises(ValueError, match="has no TLS"):
        AsyncClient("unix:/tmp/q.sock", tls=Tls())


@pytest.mark.parametrize(
    ("said", "tls", "problem", "retryable"),
    [
        ("SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED: unable to get local issuer", Tls(), "UNTRUSTED", False),
        ("Custom verification: Hostname Verification Check failed.", Tls(), "WRONG_NAME", False),
        ("SSL_ERROR_SSL: OPENSSL_internal:WRONG_VERSION_NUMBER", Tls(), "NO_TLS", False),
        ("Socket closed", None, "PLAINTEXT_REFUSED", True),
        ("Socket closed", Tls(), "CERTIFICATE_WANTED", True),
        ("recvmsg: Connection reset by peer", None, "PLAINTEXT_REFUSED", True),
    ],
)
def test_an_error_says_what_tls_has_to_do_with_it(
    said: str, tls: Tls | None, problem: str, retryable: bool
) -> None:
    told = explain_connection(unavailable(PREFIX + said), tls)
    assert (told.tls_problem, told.retryable) == (problem, retryable)
    assert said in told.message
    assert told.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "error",
    [
        unavailable(PREFIX + "Failed to connect to remote host: Connection refused"),
        unavailable("Socket closed"),  # in the middle of a call: it was connected
        QuarryCallError(grpc.StatusCode.INTERNAL, PREFIX + "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_other_errors_stay_as_they_are(error: QuarryCallError) -> None:
    assert explain_connection(error, None) is error
    assert error.tls_problem == ""


def test_a_path_is_written_as_grpc_reads_it() -> None:
    assert write_grpc_target("unix:/a b%#?.sock") == "unix:/a%20b%25%23%3F.sock"
    assert write_grpc_target("127.0.0.1:1") == "127.0.0.1:1"
    assert find_path_problem(Path("/" + "x" * (LONGEST_PATH_BYTES - 1))) == ""
    assert find_path_problem(Path("/" + "x" * LONGEST_PATH_BYTES))
    assert find_path_problem(Path("/a\0b"))
