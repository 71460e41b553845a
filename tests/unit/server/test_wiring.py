"""What a server opens, where it cannot be had."""

from pathlib import Path

import numpy as np
import pytest

from quarry.config import Settings
from quarry_server.wiring import open_states

KEY = b"k" * 16
STATES = np.ones((2, 3), np.float16)


def test_a_server_starts_without_stored_states_where_their_file_cannot_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "states.db").mkdir()
    states = open_states(Settings(data=tmp_path))
    (line,) = caplog.messages
    assert line.startswith("passage states are not stored until the next start: ")
    states.put(KEY, STATES.copy())
    assert states.find_known([KEY]) == {KEY}
    assert not states.find_stored([KEY])
    states.close()


def test_states_outlive_a_server_where_the_file_can_be_opened(tmp_path: Path) -> None:
    for stored in (set(), {KEY}):
        states = open_states(Settings(data=tmp_path))
        assert states.find_stored([KEY]) == stored
        states.put(KEY, STATES.copy())
        states.close()
