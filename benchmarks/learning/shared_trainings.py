"""Trainings that share what is the same in all: the encoder's states and the first stage's candidates."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from quarry.training.forms import FormName, read_model_form
from quarry.training.spec import TrainingSpec
from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.data.live import DEPTH, Counted, LiveSearch, RankedQuery, open_search
from quarry_trainer.evaluation.scoring import PairModel
from quarry_trainer.learning import text_states
from quarry_trainer.learning.trainable_forms import Form, FormScorer, open_form
from quarry_trainer.trainings import training_run
from quarry_trainer.trainings.recipe import PreparedModel
from quarry_trainer.trainings.reranker import RerankerRecipe

STATE_BYTES = 6 * 2**30
"""Of passage states in memory: all that a set's trainings and its test queries read."""


class SharedStates:
    """Opens recipes and scorers whose encoder reads each text once for all of them.

    Args:
        prepare: told of each form that is opened.
    """

    def __init__(self, prepare: Callable[[Form], None] | None = None) -> None:
        text_states.STATE_BYTES = STATE_BYTES
        self.prepare = prepare or (lambda _form: None)
        self._first: dict[FormName, Form] = {}

    def open(self, spec: TrainingSpec, data: Path, work: Path) -> RerankerRecipe:
        """As ``quarry_trainer.trainings.recipe.OpenRecipe``."""
        return _Recipe(spec, data, work, self)

    def get_scorer(self, folder: Path) -> PairModel:
        """A trained model as it is served, by torch."""
        form = read_model_form(folder)
        opened = open_form(folder, form.max_tokens, 0, self.like(form.name))
        self.prepare(opened)
        self._first.setdefault(form.name, opened)
        return FormScorer(opened)

    def like(self, form: FormName) -> Form | None:
        return self._first.get(form)


class _AskedOnce:
    """A live search that asks the server for a query's candidates once: documents do not change here."""

    def __init__(self, live: LiveSearch, known: dict[str, RankedQuery]) -> None:
        self._live, self._known = live, known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._live, name)

    def rank(
        self, queries: Mapping[str, str], depth: int = DEPTH, counted: Counted | None = None
    ) -> list[RankedQuery]:
        missing = {text: text for text in queries.values() if text not in self._known}
        self._known |= {query.query_id: query for query in self._live.rank(missing, depth)}
        if counted is not None:
            counted(len(queries), len(queries))
        return [replace(self._known[text], query_id=id) for id, text in queries.items()]


@contextmanager
def asking_once(known: dict[str, RankedQuery]) -> Iterator[None]:
    """Trainings share what the first stage gives, in ``known``, for as long as the context lasts."""

    @contextmanager
    def open_asking_once(*arguments: Any) -> Iterator[_AskedOnce]:
        with open_search(*arguments) as live:
            yield _AskedOnce(live, known)

    with patch.object(training_run, "open_search", open_asking_once):
        yield


class _Recipe(RerankerRecipe):
    """Scores by torch, which keeps states; the export scores alike, as the unit tests show."""

    def __init__(self, spec: TrainingSpec, data: Path, work: Path, shared: SharedStates) -> None:
        super().__init__(spec, data, work, shared.like(spec.form))
        shared.prepare(self._form)
        self._shared = shared

    def prepare(self, texts: list[TextGroup], rate: float | None = None) -> PreparedModel:
        return replace(super().prepare(texts, rate), served=_Served(self._shared))


class _Served:
    """As ``quarry_trainer.evaluation.trained_model.ServedModelLoader``."""

    def __init__(self, shared: SharedStates) -> None:
        self._shared = shared

    def load(self, folder: Path) -> PairModel:
        return self._shared.get_scorer(folder)

    def load_exact(self, folder: Path) -> None:
        """Returns None: nothing serves in int8 here."""
