"""The models that a server has loaded, by name, each once."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.base import Encoder
from quarry.models.batcher import EncoderBatcher, PairBatcher
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.encoder import load_encoder
from quarry.models.loading import Device

_SPECIAL_TOKENS = 2
Loaded = TypeVar("Loaded")


class ServedEncoder:
    """An encoder and its batcher."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.batcher = EncoderBatcher(encoder)

    async def encode_query(self, text: str) -> tuple[NDArray[np.float32], bool]:
        """The unit vector of ``text``, and whether it was cut to what the model reads."""
        vectors = await self.batcher.encode([text])
        return vectors[0], await self._is_cut(text)

    async def _is_cut(self, text: str) -> bool:
        room = self.encoder.info.max_tokens - _SPECIAL_TOKENS
        if len(text) <= room:  # a token has at least one character
            return False
        (spans,) = await asyncio.to_thread(self.encoder.token_spans, [text])
        return len(spans) > room


class _Once(Generic[Loaded]):
    """Loads each name once, however many ask for it at the same time."""

    def __init__(self, load: Callable[[str], Loaded]) -> None:
        self._load = load
        self._locks: dict[str, asyncio.Lock] = {}
        self.loaded: dict[str, Loaded] = {}

    async def get(self, name: str) -> Loaded:
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self.loaded:
                self.loaded[name] = await asyncio.to_thread(self._load, name)
            return self.loaded[name]


class ServedModels:
    """Loads encoders and cross-encoders on first use and keeps them; ended by ``close``."""

    def __init__(self, data: Path, device: Device) -> None:
        self._encoders = _Once(lambda name: ServedEncoder(load_encoder(name, data, device)))
        self._scorers = _Once(lambda name: PairBatcher(load_cross_encoder(name, data, device)))

    async def encoder(self, name: str) -> ServedEncoder:
        """Raises ModelError."""
        return await self._encoders.get(name)

    async def load_scorer(self, name: str) -> PairBatcher:
        """Raises ModelError."""
        return await self._scorers.get(name)

    def scorer(self, name: str) -> PairBatcher:
        """A cross-encoder that is loaded already. Raises ModelError for another."""
        if name not in self._scorers.loaded:
            raise ModelError(f"the re-ranker {name} is not loaded", model=name)
        return self._scorers.loaded[name]

    async def close(self) -> None:
        batchers: Sequence[EncoderBatcher | PairBatcher] = [
            *(served.batcher for served in self._encoders.loaded.values()),
            *self._scorers.loaded.values(),
        ]
        for batcher in batchers:
            await asyncio.to_thread(batcher.close)
