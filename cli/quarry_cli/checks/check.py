"""The result of a check of `quarry doctor`, and the checks of what is installed."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata

DISTRIBUTION = "quarry-search"
SERVER_EXTRA = f"pip install '{DISTRIBUTION}[server]'"
REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")


class CheckState(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what was looked at.
        state: fail: Quarry does not work; warn: something does not.
        detail: what was found, and what to do about it.
    """

    name: str
    state: CheckState
    detail: str


def check_python() -> Iterator[Check]:
    yield Check("python", CheckState.OK, f"{sys.version.split()[0]} at {sys.prefix}")


def check_packages() -> Iterator[Check]:
    """Checks versions of what Quarry needs, and of what its server needs besides."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
        yield Check(DISTRIBUTION, CheckState.OK, metadata.version(DISTRIBUTION))
    except metadata.PackageNotFoundError:
        yield Check(DISTRIBUTION, CheckState.FAIL, f"is not installed: pip install {DISTRIBUTION}")
        return
    base = [r for r in requirements if "extra ==" not in r]
    yield _check_installed("client packages", base, CheckState.FAIL, f"pip install {DISTRIBUTION}")
    extra = [r for r in requirements if re.search(r"""extra == ['"]server['"]""", r)]
    yield _check_installed("server packages", extra, CheckState.WARN, SERVER_EXTRA)
    parquet = _find_version("pyarrow")
    detail = f"pyarrow {parquet}" if parquet else "not installed; only for Parquet files: pip install pyarrow"
    yield Check("parquet", CheckState.OK, detail)


def _check_installed(name: str, requirements: list[str], if_missing: CheckState, command: str) -> Check:
    """Checks the versions of the required packages that this platform needs."""
    found: dict[str, str | None] = {}
    for requirement in requirements:
        matched = REQUIREMENT.match(requirement)
        if matched and not (sys.platform == "win32" and "sys_platform" in requirement):
            found[matched.group()] = _find_version(matched.group())
    missing = [package for package, version in found.items() if version is None]
    if missing:
        return Check(name, if_missing, f"missing: {', '.join(missing)}: {command}")
    return Check(name, CheckState.OK, ", ".join(f"{package} {version}" for package, version in found.items()))


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def is_server_installed() -> bool:
    """Tells whether the packages that a server needs seem to be there."""
    return all(
        importlib.util.find_spec(module) is not None
        for module in ("quarry_server", "onnxruntime", "qdrant_edge", "sqlalchemy", "tantivy")
    )
