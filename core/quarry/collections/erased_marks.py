"""The record of how far the files of a generation's indexes are free of what was deleted."""

import contextlib
import json
from pathlib import Path

from quarry.storage.sync import write_durably

FILE = "erased.json"


class ErasedMarks:
    """A sequence number for each index: its files hold nothing of what was deleted up to there.

    The log knows the deletions after that number. So an erasure that a kill interrupts is done again.

    Args:
        folder: of the generation.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sequences: dict[str, int] | None = None

    def read(self, arm: str) -> int:
        return self._load().get(arm, 0)

    def skip_to(self, arm: str, sequence: int) -> None:
        """Notes in memory that nothing was deleted up to this sequence number.

        The next ``write`` stores it. If none comes before the server ends, the log is looked through again.
        """
        self._load()[arm] = sequence

    def write(self, arm: str, sequence: int) -> None:
        """Notes for good that the arm was erased after it had followed the log up to this sequence number.

        It stores what ``skip_to`` noted, too. Raises OSError.
        """
        sequences = self._load()
        sequences[arm] = sequence
        write_durably(self._folder / FILE, json.dumps(sequences))

    def _load(self) -> dict[str, int]:
        if self._sequences is None:
            self._sequences = {}
            # what cannot be read is no loss: everything is looked at again
            with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
                stored = json.loads((self._folder / FILE).read_text(encoding="utf-8"))
                self._sequences = {str(arm): int(sequence) for arm, sequence in stored.items()}
        return self._sequences
