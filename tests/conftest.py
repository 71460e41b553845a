"""Options of the whole suite."""

import signal

import pytest

import quarry as quarry  # forbids telemetry before a test imports any library


def pytest_configure() -> None:
    """Ctrl-C works in the tests and what they start, also where a shell has put them in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("crash tests")
    group.addoption(
        "--crash-hours",
        type=float,
        default=0.0,
        help="go on killing at random for so many hours after the short round of kills",
    )
    group.addoption(
        "--crash-seed", type=int, default=None, help="seed of the crash tests; printed by each run"
    )
