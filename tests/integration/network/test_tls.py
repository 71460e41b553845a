"""Real servers behind TLS: who gets in, what the others are told, and certificates that are renewed."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.certificates import Pair, make_authority, make_certificate
from tests.integration.crash.server import NO_ENCODER, Server, ServerEnded, stopping_in_order

from quarry.client import AsyncClient, Client, QuarryCallError, Tls
from quarry.v1.collection_service_pb2 import ListCollectionsRequest

CALL_S = 30.0
LISTING = ListCollectionsRequest()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def pair(authority: Pair, tmp_path: Path) -> Pair:
    return make_certificate(authority, tmp_path / "server")


@pytest.fixture
def of_client(authority: Pair, tmp_path: Path) -> Pair:
    return make_certificate(authority, tmp_path / "client", "client")


def tls_settings(pair: Pair, client_ca: Path | None = None) -> dict[str, str]:
    settings = {"TLS__CERTIFICATE": str(pair.certificate), "TLS__KEY": str(pair.key)}
    return settings | ({} if client_ca is None else {"TLS__CLIENT_CA": str(client_ca)})


def listed(address: str, tls: Tls | None) -> None:
    """Lists the collections with the synchronous client."""
    with Client(address, timeout_s=CALL_S, tls=tls) as client:
        client.collections.ListCollections(LISTING)


async def refused(address: str, tls: Tls | None) -> QuarryCallError:
    """What both clients say of a server that does not let them in."""
    with pytest.raises(QuarryCallError) as of_sync:
        await asyncio.to_thread(listed, address, tls)
    with pytest.raises(QuarryCallError) as of_async:
        async with AsyncClient(address, timeout_s=CALL_S, tls=tls) as client:
            await client.collections.ListCollections(LISTING)
    assert of_async.value.tls_problem == of_sync.value.tls_problem
    return of_sync.value


async def run_quarry(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command line."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QUARRY_")}
    command = [sys.executable, "-m", "quarry_cli", *arguments]

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, capture_output=True, text=True, env=kept | variables, timeout=60)

    return await asyncio.to_thread(run)


async def test_clients_that_trust_the_authority_get_in_and_others_are_told_why(
    authority: Pair, pair: Pair, tmp_path: Path
) -> None:
    ca = str(authority.certificate)
    async with stopping_in_order(tmp_path / "data", **tls_settings(pair)) as server:
        await asyncio.to_thread(listed, server.address, Tls(ca=ca))
        async with AsyncClient(server.address, timeout_s=CALL_S, tls=Tls(ca=ca)) as client:
            await client.collections.ListCollections(LISTING)
        assert (await refused(server.address, None)).tls_problem == "PLAINTEXT_REFUSED"
        assert (await refused(server.address, Tls())).tls_problem == "UNTRUSTED"
        other = make_authority(tmp_path / "other").certificate
        assert (await refused(server.address, Tls(ca=other))).tls_problem == "UNTRUSTED"
        port = server.address.rpartition(":")[2]
        assert (await refused(f"127.0.0.2:{port}", Tls(ca=ca))).code.name == "UNAVAILABLE"  # not bound


async def test_a_name_that_is_not_in_the_certificate_is_refused(authority: Pair, tmp_path: Path) -> None:
    pair = make_certificate(authority, tmp_path / "named", names="DNS:quarry.example")
    async with stopping_in_order(tmp_path / "data", **tls_settings(pair)) as server:
        error = await refused(server.address, Tls(ca=authority.certificate))
        assert error.tls_problem == "WRONG_NAME"
        named = (("grpc.ssl_target_name_override", "quarry.example"),)
        with Client(server.address, tls=Tls(ca=authority.certificate), options=named) as client:
            await asyncio.to_thread(client.collections.ListCollections, LISTING)


async def test_tls_to_a_port_in_plaintext_says_so(authority: Pair, tmp_path: Path) -> None:
    async with stopping_in_order(tmp_path / "data") as server:
        error = await refused(server.address, Tls(ca=authority.certificate))
        assert error.tls_problem == "NO_TLS"
        ended = await run_quarry("--server", server.address, "--tls", "collection", "list")
        assert ended.returncode == 1
        assert "leave out --tls" in ended.stderr
        assert ended.stderr.count("\n") == 1


async def test_a_client_without_a_certificate_of_the_authority_stays_outside(
    authority: Pair, pair: Pair, of_client: Pair, tmp_path: Path
) -> None:
    ca = authority.certificate
    stranger = make_certificate(make_authority(tmp_path / "other"), tmp_path / "stranger", "client")
    async with stopping_in_order(tmp_path / "data", **tls_settings(pair, ca)) as server:
        await asyncio.to_thread(listed, server.address, Tls(ca, of_client.certificate, of_client.key))
        assert (await refused(server.address, Tls(ca))).tls_problem == "CERTIFICATE_WANTED"
        shown = Tls(ca, stranger.certificate, stranger.key)
        assert (await refused(server.address, shown)).tls_problem == "CERTIFICATE_WANTED"
        assert (await refused(server.address, None)).tls_problem == "PLAINTEXT_REFUSED"


async def test_the_command_line_takes_options_before_and_behind_the_command_and_variables(
    authority: Pair, pair: Pair, of_client: Pair, tmp_path: Path
) -> None:
    ca, mine, key = str(authority.certificate), str(of_client.certificate), str(of_client.key)
    files = ["--tls-ca", ca, "--tls-cert", mine, "--tls-key", key]
    variables = {"QUARRY_TLS_CA": ca, "QUARRY_TLS_CERT": mine, "QUARRY_TLS_KEY": key}
    async with stopping_in_order(tmp_path / "data", **tls_settings(pair, authority.certificate)) as server:
        listing = ["--server", server.address, "collection", "list", "--json"]
        for command in ([*files, *listing], [*listing, *files]):
            ended = await run_quarry(*command)
            assert (ended.returncode, ended.stderr) == (0, "")
            assert json.loads(ended.stdout) == []
        assert (await run_quarry(*listing, **variables)).returncode == 0
        # An option of the command goes over a variable.
        wrong = variables | {"QUARRY_TLS_CA": mine}
        assert (await run_quarry(*listing, **wrong)).returncode == 1
        assert (await run_quarry(*listing, "--tls-ca", ca, **wrong)).returncode == 0
        for options, told in (
            ([], "--tls-ca FILE, or --tls, connects with TLS"),
            (["--tls"], "--tls-ca FILE names the CA's certificate"),
            (["--tls-ca", ca], "--tls-cert FILE --tls-key FILE shows a certificate"),
            (["--tls-ca", ca, "--tls-cert", mine], "one of both is missing"),
            (["--tls-ca", str(tmp_path / "none")], "cannot be read"),
        ):
            ended = await run_quarry(*listing, *options)
            assert ended.returncode == 1
            assert told in ended.stderr
            assert ended.stderr.count("\n") == 1, ended.stderr


async def test_renewed_files_serve_without_a_restart_and_wrong_ones_do_not(
    authority: Pair, pair: Pair, tmp_path: Path
) -> None:
    next_authority = make_authority(tmp_path / "next")
    renewed = make_certificate(next_authority, tmp_path / "renewed")
    old, new = Tls(authority.certificate), Tls(next_authority.certificate)
    async with stopping_in_order(tmp_path / "data", **tls_settings(pair)) as server:
        with Client(server.address, timeout_s=CALL_S, tls=old) as connected:
            await asyncio.to_thread(connected.collections.ListCollections, LISTING)

            pair.certificate.write_bytes(renewed.certificate.read_bytes())
            assert (await refused(server.address, new)).tls_problem == "UNTRUSTED"  # the key is the old one
            await asyncio.to_thread(listed, server.address, old)
            assert server.log().count("the old certificate goes on serving") == 1

            pair.key.write_bytes(renewed.key.read_bytes())
            await asyncio.to_thread(listed, server.address, new)
            assert (await refused(server.address, old)).tls_problem == "UNTRUSTED"
            assert server.log().count("a new certificate serves") == 1

            await asyncio.to_thread(connected.collections.ListCollections, LISTING)  # connections stay


async def test_new_authorities_of_clients_hold_without_a_restart(
    authority: Pair, pair: Pair, of_client: Pair, tmp_path: Path
) -> None:
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.certificate.read_bytes())
    next_authority = make_authority(tmp_path / "next")
    renewed = make_certificate(next_authority, tmp_path / "renewed", "client")
    ca = authority.certificate
    shown, next_shown = (Tls(ca, client.certificate, client.key) for client in (of_client, renewed))
    async with stopping_in_order(tmp_path / "data", **tls_settings(pair, trusted)) as server:
        await asyncio.to_thread(listed, server.address, shown)
        trusted.write_bytes(next_authority.certificate.read_bytes())
        await asyncio.to_thread(listed, server.address, next_shown)
        assert (await refused(server.address, shown)).tls_problem == "CERTIFICATE_WANTED"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"HOST": "0.0.0.0"}, "--insecure"),  # noqa: S104
        ({"HOST": "::"}, "--tls-cert"),
        (
            {"TLS__CERTIFICATE": "none.pem", "TLS__KEY": "none.key"},
            "tls.certificate: none.pem cannot be read",
        ),
        ({"TLS__KEY": "none.key"}, "tls.certificate is missing"),
        ({"TLS__CLIENT_CA": "none.pem"}, "client_ca needs tls.certificate"),
        ({"SOCKET": "/none/at/all"}, "socket: /none/at is not a folder"),
        ({"SOCKET": "/" + "x" * 107}, "107 bytes"),
    ],
)
async def test_a_start_that_cannot_be_secure_touches_nothing(
    tmp_path: Path, settings: dict[str, str], told: str
) -> None:
    with pytest.raises(ServerEnded) as ended:
        await Server.start(tmp_path / "data", NO_ENCODER, **settings)
    assert ended.value.status == 1
    assert told in ended.value.said
    assert ended.value.said.count("\n") == 1
    assert not (tmp_path / "data").exists()


async def test_insecure_with_tls_is_a_contradiction(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(ServerEnded, match="exclude each other"):
        await Server.start(tmp_path / "data", NO_ENCODER, INSECURE="true", **tls_settings(pair))
