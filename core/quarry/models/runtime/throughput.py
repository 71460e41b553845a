"""The speed of a model of late, to know what fits into the time that is left."""

import threading

INITIAL_TOKENS_PER_S = 2_000.0
"""Believed before anything was run: slow, so that a first search rather re-ranks too little than too late."""
INITIAL_TOKENS_PER_CHARACTER = 0.3
MEMORY = 0.9
"""Weight that what is known keeps at each new batch."""


class Throughput:
    """A moving average in which each batch weighs by its seconds. Callable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = 0.0
        self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Counts a batch of so many tokens, padding left out, that took one thread ``seconds``."""
        with self._lock:
            self._tokens = self._tokens * MEMORY + tokens
            self._seconds = self._seconds * MEMORY + seconds

    @property
    def tokens_per_s(self) -> float:
        """The tokens that one thread runs in a second."""
        with self._lock:
            return self._tokens / self._seconds if self._seconds else INITIAL_TOKENS_PER_S


class TokenDensity:
    """Tokens per character of recent items, to guess a text's length without reading it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = 0.0
        self._characters = 0.0

    def add(self, tokens: int, characters: int) -> None:
        with self._lock:
            self._tokens = self._tokens * MEMORY + tokens
            self._characters = self._characters * MEMORY + characters

    @property
    def tokens_per_character(self) -> float:
        with self._lock:
            return self._tokens / self._characters if self._characters else INITIAL_TOKENS_PER_CHARACTER
