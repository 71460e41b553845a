"""Options of the whole suite."""

import os
import signal

import hypothesis
import pytest

import quarry as quarry  # forbids telemetry before a test imports any library

os.environ.pop("COLUMNS", None)  # a worker of pytest-xdist sets it, and tables are as wide as a test says


def pytest_configure() -> None:
    """Lets no example fail because the machine is busy, and Ctrl-C reach the tests and what they start."""
    hypothesis.settings.register_profile("any-machine", deadline=None)
    hypothesis.settings.load_profile("any-machine")
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
