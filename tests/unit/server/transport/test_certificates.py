"""The files of TLS: what is refused at a start, and what a renewal does."""

import logging
import os
import subprocess
from pathlib import Path

import grpc
import pytest
from tests.certificates import Pair, make_authority, make_certificate

from quarry.config import TlsSettings
from quarry.errors import InvalidArgumentError
from quarry_server.transport.certificates import MAX_FILE_BYTES, RenewedCertificates, read_certificates


@pytest.fixture
def authority(tmp_path: Path) -> Pair:
    return make_authority(tmp_path / "authority")


@pytest.fixture
def pair(authority: Pair, tmp_path: Path) -> Pair:
    return make_certificate(authority, tmp_path / "first")


@pytest.fixture
def other(authority: Pair, tmp_path: Path) -> Pair:
    return make_certificate(authority, tmp_path / "second")


def tls(pair: Pair, client_ca: Path | str = "") -> TlsSettings:
    return TlsSettings(certificate=str(pair.certificate), key=str(pair.key), client_ca=str(client_ca))


def refuse(settings: TlsSettings) -> InvalidArgumentError:
    with pytest.raises(InvalidArgumentError) as refused:
        RenewedCertificates(settings)
    return refused.value


def test_files_that_belong_together_are_read(pair: Pair, authority: Pair) -> None:
    found = read_certificates(tls(pair, authority.certificate))
    assert found.chain == pair.certificate.read_bytes()
    assert found.key == pair.key.read_bytes()
    assert found.client_ca == authority.certificate.read_bytes()
    assert read_certificates(tls(pair)).client_ca is None


def test_a_key_of_another_certificate_is_refused(pair: Pair, other: Pair) -> None:
    error = refuse(tls(Pair(pair.certificate, other.key)))
    assert (error.field, "is not the key of" in error.problem) == ("tls.key", True)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_key_that_others_may_use_is_refused_with_what_to_type(pair: Pair, mode: int) -> None:
    pair.key.chmod(mode)
    error = refuse(tls(pair))
    assert error.field == "tls.key"
    assert f"(mode {mode:04o}): chmod 600 {pair.key}" in error.problem


def test_a_key_of_root_may_have_a_group_and_nobody_else(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's ssl-cert group and Kubernetes' fsGroup let servers read keys that belong to root."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of root")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    pair.key.chmod(0o640)
    read_certificates(tls(pair))
    pair.key.chmod(0o644)
    refuse(tls(pair))


@pytest.mark.parametrize("field", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "cut", "large", "zero byte"])
def test_a_file_that_is_no_pem_is_named(
    pair: Pair, authority: Pair, tmp_path: Path, field: str, kind: str
) -> None:
    good = tls(pair, authority.certificate)
    bad = tmp_path / "bad"
    original = Path(getattr(good, field)).read_bytes()
    if kind == "folder":
        bad.mkdir(mode=0o700)
    elif kind not in ("missing", "zero byte"):
        text = {
            "empty": b"",
            "text": b"hello",
            "cut": original[:-60],
            "large": original + b"\n" * MAX_FILE_BYTES,
        }
        bad.write_bytes(text[kind])
        bad.chmod(0o600)
    name = "a\0b" if kind == "zero byte" else str(bad)
    error = refuse(good.model_copy(update={field: name}))
    # Of a pair that cannot be loaded OpenSSL does not say which file is the wrong one.
    named = {"key": {"tls.key", "tls.certificate"}}.get(field, {f"tls.{field}"})
    assert error.field in named
    assert "\n" not in error.problem


def test_a_key_with_a_passphrase_is_refused(pair: Pair, tmp_path: Path) -> None:
    for number, form in enumerate((["pkcs8", "-topk8"], ["ec", "-aes128"])):
        locked = tmp_path / f"locked{number}"
        command = ["openssl", *form, "-in", str(pair.key), "-out", str(locked), "-passout", "pass:secret"]
        subprocess.run(command, check=True, capture_output=True)
        locked.chmod(0o600)
        assert "passphrase" in refuse(tls(Pair(pair.certificate, locked))).problem


def make_key(folder: Path, *kind: str) -> Pair:
    """Makes a certificate that signs itself, with a key of this kind."""
    made = Pair(folder / "other.pem", folder / "other.key")
    command = ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", "/CN=x"]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run([*command, *files], check=True, capture_output=True)
    made.key.chmod(0o600)
    return made


def write_in_old_form(key: Path) -> Path:
    """Writes a key as `BEGIN RSA PRIVATE KEY` or `BEGIN EC PRIVATE KEY`."""
    old = key.with_name("old.key")
    command = ["openssl", "pkey", "-traditional", "-in", str(key), "-out", str(old)]
    subprocess.run(command, check=True, capture_output=True)
    old.chmod(0o600)
    return old


@pytest.mark.parametrize(
    "kind",
    [["ed448"], ["ed25519"], ["ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"]],
    ids=lambda kind: kind[-1],
)
def test_a_key_that_grpc_does_not_read_is_refused_by_its_kind(tmp_path: Path, kind: list[str]) -> None:
    found = make_key(tmp_path, *kind)
    assert "holds no key of RSA" in refuse(tls(found)).problem


@pytest.mark.parametrize(
    "kind",
    [["rsa:2048"], *(["ec", "-pkeyopt", f"ec_paramgen_curve:P-{size}"] for size in (256, 384, 521))],
    ids=lambda kind: kind[-1],
)
@pytest.mark.parametrize("form", ["pkcs8", "traditional"])
async def test_every_other_kind_and_form_of_key_serves(tmp_path: Path, kind: list[str], form: str) -> None:
    found = make_key(tmp_path, *kind)
    if form == "traditional":
        found = Pair(found.certificate, write_in_old_form(found.key))
    certificates = RenewedCertificates(tls(found))
    server = grpc.aio.server()
    assert server.add_secure_port("127.0.0.1:0", certificates.make_credentials())
    await server.start()
    await server.stop(None)


def replace(old: Pair, new: Pair) -> None:
    for target, source in ((old.certificate, new.certificate), (old.key, new.key)):
        target.write_bytes(source.read_bytes())


def test_files_that_stay_are_not_given_to_grpc_again(pair: Pair) -> None:
    served = RenewedCertificates(tls(pair))
    assert served.fetch_renewed() is None
    pair.certificate.touch()
    assert served.fetch_renewed() is None


def test_a_renewed_pair_is_taken_once(pair: Pair, other: Pair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    served = RenewedCertificates(tls(pair))
    replace(pair, other)
    assert served.fetch_renewed() is not None
    assert served.fetch_renewed() is None
    assert [record.getMessage() for record in caplog.records] == [
        f"a new certificate serves, from {pair.certificate}"
    ]


def test_half_a_renewal_is_refused_once_and_the_whole_one_is_taken(
    pair: Pair, other: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    served = RenewedCertificates(tls(pair))
    pair.certificate.write_bytes(other.certificate.read_bytes())
    assert [served.fetch_renewed() for _ in range(3)] == [None] * 3
    (record,) = caplog.records
    assert "is not the key of" in record.getMessage()
    pair.key.write_bytes(other.key.read_bytes())
    assert served.fetch_renewed() is not None


@pytest.mark.parametrize("harm", ["remove", "empty", "open"])
def test_a_renewal_that_cannot_be_used_leaves_the_old_one(
    pair: Pair, other: Pair, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = RenewedCertificates(tls(pair))
    replace(pair, other)
    if harm == "remove":
        pair.key.unlink()
    elif harm == "empty":
        pair.certificate.write_bytes(b"")
    else:
        pair.key.chmod(0o644)
    assert served.fetch_renewed() is None
    assert "the old certificate goes on serving" in caplog.text


def test_new_authorities_of_clients_are_taken(pair: Pair, authority: Pair, tmp_path: Path) -> None:
    served = RenewedCertificates(tls(pair, authority.certificate))
    authority.certificate.write_bytes(make_authority(tmp_path / "next").certificate.read_bytes())
    assert served.fetch_renewed() is not None
