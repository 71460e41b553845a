"""Options of the whole suite."""

import pytest


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
