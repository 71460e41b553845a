"""Re-rankers as a server serves them, loaded for a verdict."""

from pathlib import Path

from quarry.models.caches.state_cache import StateCache
from quarry.training.forms import read_model_form
from quarry.training.spec import PrecisionName
from quarry_trainer.evaluation.scoring import PairModel, load_as_served
from quarry_trainer.learning.trainable_forms import Form, FormScorer, open_form

STATE_BYTES = 2**29
"""Of passages that several models are scored on: some 5,400 of 128 tokens, twice as many in int8."""


class ServedRerankers:
    """Loads re-rankers as a server serves them whose data folder is ``data``.

    Args:
        like: the form in training; states of texts are shared with it.
    """

    def __init__(self, data: Path, precision: PrecisionName, like: Form) -> None:
        self._data, self._precision, self._like = data, precision, like
        self._states = StateCache(STATE_BYTES)

    def load(self, folder: Path) -> PairModel:
        """Loads a model as it is served.

        In float32 a split one is scored by torch, which keeps states, once its export scores alike.
        """
        exported = load_as_served(folder, self._data, self._precision, self._states)
        if self._precision == "int8" or not read_model_form(folder).joint_layers:
            return exported
        return self._load_in_torch(folder)

    def load_exact(self, folder: Path) -> PairModel | None:
        return self._load_in_torch(folder) if self._precision == "int8" else None

    def _load_in_torch(self, folder: Path) -> PairModel:
        return FormScorer(open_form(folder, read_model_form(folder).max_tokens, 0, like=self._like))
