"""What tests of trainings share whose jobs only pretend to train."""

import psutil
import pytest
from tests.integration.api.helpers.corpus import seeded_documents
from tests.integration.api.helpers.mining import judged
from tests.integration.api.helpers.training import path_with_fakes

FAKE = "fake_trainer"
DOCUMENTS = seeded_documents()
ROWS = [(f"q{n}", f"bara {n}", f"d{n:03}", f"d{n + 40:03}") for n in range(8)]
JUDGED = judged({"q1": ("bara", {"d001": 1})})


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets jobs run the fake trainer."""
    monkeypatch.setenv("PYTHONPATH", path_with_fakes())
    monkeypatch.setattr("quarry.training.jobs.MODULE", FAKE)


def jobs() -> list[psutil.Process]:
    """Jobs that this process has started and that run."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if FAKE in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found
