"""Authorities and certificates for tests, made by the openssl command as the page on TLS makes them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
NAMES = "DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


def make_authority(folder: Path) -> Pair:
    """Makes an authority in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Pair(folder / "ca.pem", folder / "ca.key")
    _run_openssl(made, "authority", "-addext", "basicConstraints=critical,CA:TRUE")
    return made


def make_certificate(authority: Pair, folder: Path, name: str = "server", names: str = NAMES) -> Pair:
    """Makes a certificate for ``names`` in ``folder``, signed by the authority."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    by = ("-CA", str(authority.certificate), "-CAkey", str(authority.key))
    extensions = (
        *("-addext", f"subjectAltName={names}"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    )
    _run_openssl(made, name, *extensions, *by)
    return made


def _run_openssl(made: Pair, name: str, *options: str) -> None:
    command = ["openssl", "req", "-x509", *_NEW_KEY, "-days", "2", "-subj", f"/CN={name}", *options]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run([*command, *files], check=True, capture_output=True)
    made.key.chmod(0o600)
