"""A re-ranker that a server has loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from quarry.models.base import CrossEncoder, PairScore
from quarry.models.blend import Blend
from quarry.models.caches.score_cache import ScoreCache
from quarry.models.calibration import Calibration
from quarry.models.runtime.batcher import PairBatcher


@runtime_checkable
class StateKeeper(Protocol):
    """A model that can do a passage's part of the work beforehand. Blocks."""

    def keep(self, passages: Sequence[str]) -> bool:
        """Stores what it makes of each; False if there is no room. Raises ModelError or DiskFullError."""
        ...


class ServedReranker:
    """A cross-encoder, its batcher, how its scores join the fused ones, and what both say of relevance.

    Attributes:
        calibration: None: what its scores say of relevance is not known.
        folder: of a registered version; None for another model.
        keeper: the model, if it can store what it makes of a passage before anybody asks.
    """

    def __init__(
        self,
        model: CrossEncoder,
        blend: Blend,
        folder: Path | None = None,
        cache: ScoreCache | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.blend, self.folder, self.calibration = blend, folder, calibration
        self.keeper = model if isinstance(model, StateKeeper) else None
        self.batcher = PairBatcher(model)
        self._cache = ScoreCache(0) if cache is None else cache

    async def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        """Scores each pair, in order; only pairs that were not scored of late are run."""
        return await self._run_missing(pairs, self._look_up(pairs))

    async def score_in_time(self, pairs: Sequence[tuple[str, str]], seconds: float) -> list[PairScore]:
        """Scores as many of ``pairs``, from the first, as are likely to be scored in ``seconds``."""
        known = self._look_up(pairs)
        missing = [place for place, score in enumerate(known) if score is None]
        fit = self.batcher.count_fitting([pairs[place] for place in missing], seconds)
        end = len(pairs) if fit == len(missing) else missing[fit]
        return await self._run_missing(pairs[:end], known[:end])

    def _look_up(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore | None]:
        return self._cache.get(self.batcher.info.fingerprint, pairs)

    async def _run_missing(
        self, pairs: Sequence[tuple[str, str]], known: Sequence[PairScore | None]
    ) -> list[PairScore]:
        """Runs the pairs whose score is not ``known``, and keeps what they get."""
        missing = [pair for pair, score in zip(pairs, known, strict=True) if score is None]
        scores = await self.batcher.score(missing)
        self._cache.put(self.batcher.info.fingerprint, missing, scores)
        new = iter(scores)
        return [next(new) if score is None else score for score in known]

    def close(self) -> None:
        self.batcher.close()
