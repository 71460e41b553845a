"""Long commands say how far they are where nobody looks at a terminal, too."""

import threading

import pytest

from quarry_cli import console
from quarry_cli.console import make_progress


def test_a_long_task_says_how_far_it_is_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    enough = threading.Event()

    def keep(line: str) -> None:
        said.append(line)
        if len(said) == 6:
            enough.set()

    monkeypatch.setattr(console, "SAY_EVERY_S", 0.01)
    monkeypatch.setattr(console, "note", keep)
    with make_progress() as bar:
        bar.add_task("done", total=1.0, completed=1.0)
        bar.add_task("the loop", total=1.0, completed=0.45, said="training: step 7")
        bar.add_task("arms", total=2_000, completed=32)
        bar.add_task("reading", total=None)
        assert enough.wait(10)
    spoken = len(said)
    assert said[:3] == [
        "the loop: 45 %, training: step 7, 0:00:00",
        "arms: 32 of 2,000, 0:00:00",
        "reading: 0:00:00",
    ]
    assert said[3:6] == said[:3]
    assert len(said) == spoken, "it is silent once the work is done"


def test_what_is_quick_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with make_progress() as bar:
        bar.advance(bar.add_task("arms", total=2))
    assert capfd.readouterr() == ("", "")
