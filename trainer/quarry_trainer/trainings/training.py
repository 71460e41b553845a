"""One training from its examples to an evaluated model, whatever kind of model it is."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from quarry.clicks.log import ClickLog
from quarry.jobs.child import Progress
from quarry.mining.spec import JudgedQuery
from quarry.models.blend import RERANKER_ALONE, Blend, read_blend, write_blend
from quarry.models.calibration import write_calibration
from quarry.questions import question_key
from quarry.registry.evidence import Spent
from quarry.training.folders import MODEL, attempt_of, work_of
from quarry.training.spec import MAX_EPOCH_STEPS, EvaluationReport, TrainingResult, TrainingSpec
from quarry_trainer.data.dataset import (
    BadExamplesError,
    Examples,
    Group,
    GroupDataset,
    TextGroup,
    read_examples,
)
from quarry_trainer.data.entities import Entities, entities_of
from quarry_trainer.data.judged_sample import Sample, relabelled
from quarry_trainer.data.live import DEPTH, LiveSearch, RankedQuery, open_search
from quarry_trainer.data.material import (
    Parts,
    divided,
    ranked_once,
    text_groups,
)
from quarry_trainer.data.memory import Memory, read_before, reading_from, with_memory
from quarry_trainer.evaluation.calibrating import with_calibration
from quarry_trainer.evaluation.click_evaluation import evaluate_clicks
from quarry_trainer.evaluation.evaluation import (
    Scored,
    evaluate_ranked,
    feedback_of,
    frequency_of,
    fused_alone,
    orders_by,
    spent_on,
)
from quarry_trainer.evaluation.scoring import PairModel, ReadOnce, score_ranked
from quarry_trainer.learning.averaging import Averaging
from quarry_trainer.learning.loop import LoopResult, LoopSettings, Trainable, run_loop
from quarry_trainer.measures import Orders
from quarry_trainer.trainings.development import Development
from quarry_trainer.trainings.results import refused, trained

LEAST_STEPS = 50
"""Of a training that is not told how many: a small set is read more than once."""

SHARES = {"candidates": (0.0, 0.1), "training": (0.1, 0.75), "evaluating": (0.75, 1.0)}
"""Where each stage begins and ends in the progress of the whole."""


class Recipe(Protocol):
    """How a kind of model is trained. Made with the model open.

    Attributes:
        groups: read in each step.
        group_size: documents of a group that are read at a time.
        learned_share: of the way from the weights that it began with to those that it ended with.
        learning_rate: unless something else is asked for.
        blends: its score is blended with the fused one.
        blend: how its score and the fused one are added while it is trained; known once groups are
            ``prepared``.
    """

    groups: int
    group_size: int
    learned_share: float
    learning_rate: float
    blends: bool
    blend: Blend

    def usual_steps(self, groups: int) -> int:
        """Of a training on so many groups that is not told how many to make."""
        ...

    def prepared(self, texts: list[TextGroup]) -> list[TextGroup]:
        """Groups as the loss needs them."""
        ...

    def trainable(self, learning_rate: float, texts: Sequence[TextGroup]) -> Trainable:
        """Of all ``texts`` that it is going to be trained on, as they were ``prepared``."""
        ...

    def scorer(self) -> PairModel:
        """The model as it is now."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the model as it can be served."""
        ...

    def served(self, folder: Path) -> PairModel:
        """A model as it is served: exported, its scores compared with torch's."""
        ...

    def exact(self, folder: Path) -> PairModel | None:
        """The same in float32; None if it serves in that."""
        ...


class OpenRecipe(Protocol):
    """Makes a recipe for a job, whose unfinished work lies in ``work``."""

    def __call__(self, spec: TrainingSpec, data: Path, work: Path) -> Recipe: ...


def train(spec: TrainingSpec, folder: Path, progress: Progress, open_recipe: OpenRecipe) -> TrainingResult:
    """Does what ``spec`` asks; the model is in ``folder / "model"`` afterwards, if there is one.

    Examples that nothing can be learned from are a result without a model.

    Raises:
        QuarryError: the server, a model or the examples cannot be read.
    """
    started, data = time.monotonic(), data_of(folder)
    assert spec.examples is not None  # noqa: S101  the request was checked
    examples: Examples | None = None
    try:
        examples = read_examples(Path(spec.examples), spec.max_text_bytes)
        with open_search(data, spec.server, spec.collection, spec.collection_key, spec.ranking) as live:
            return _Training(spec, examples, live, folder, progress, open_recipe).run(started)
    except BadExamplesError as error:
        return refused(spec, error, started, examples)


class Model(NamedTuple):
    """A trained model as it serves."""

    folder: Path
    scorer: PairModel
    blend: Blend


class _Training:
    """Made and run once."""

    def __init__(
        self,
        spec: TrainingSpec,
        examples: Examples,
        live: LiveSearch,
        folder: Path,
        progress: Progress,
        open_recipe: OpenRecipe,
    ) -> None:
        self._spec, self._examples, self._live = spec, examples, live
        self._folder, self._progress, self._open_recipe = folder, progress, open_recipe
        self._work = work_of(folder, spec)

    def run(self, started: float) -> TrainingResult:
        spec = self._spec
        recipe = self._open_recipe(spec, data_of(self._folder), self._work)
        before = read_before(spec)
        parts = divided(
            self._examples, spec.judgments, Memory(before, spec.collection), self._entities(spec.judgments)
        )
        wanted = recipe.groups * (spec.steps or recipe.usual_steps(len(parts.train)))
        groups = _needed(parts.train, wanted, spec.seed)
        ranked = self._ranked(groups, parts)
        dropped = self._examples.dropped
        texts = text_groups(groups, ranked, self._live.matching_passages, dropped)
        if not texts:
            raise BadExamplesError("of no example are both the positive and a negative in the collection")
        texts = recipe.prepared(texts)
        dataset = GroupDataset(texts, recipe.group_size, spec.seed)
        choosing = [ranked[query.id] for query in parts.development]
        development = Development(choosing, parts.development, parts.known)
        loop = self._trained(recipe, texts, dataset, development)
        model = self._folder / MODEL
        recipe.save(model)
        (before | reading_from(groups, spec.collection)).write(model)
        evaluation, blend = self._evaluated(recipe, model, parts, ranked, development)
        evaluation = with_memory(evaluation, before, parts.kept_out)
        evaluation = _with_material(evaluation, groups, texts)
        if recipe.blends:
            write_blend(model, blend)
        return trained(
            spec,
            evaluation,
            started,
            model,
            loop,
            blend,
            self._examples,
            attempt=attempt_of(self._work),
            decided_by=parts.decided_by,
        )

    def _entities(self, judged: Sequence[JudgedQuery]) -> Entities:
        own = (id for grades in self._examples.positives.values() for id in grades)
        given = (id for query in judged for id, grade in query.judgments.items() if grade > 0)
        return entities_of([*own, *given], self._live.titles)

    def _ranked(self, groups: Sequence[Group], parts: Parts) -> dict[str, RankedQuery]:
        texts = {group.query_id: group.query for group in groups}
        held_out = {query.id: query.text for query in (*parts.development, *parts.gate)}

        def counted(done: int, of: int) -> None:
            self._say("candidates", done / of)

        return ranked_once(self._live, texts | held_out, DEPTH, self._work, counted)

    def _trained(
        self, recipe: Recipe, texts: Sequence[TextGroup], dataset: GroupDataset, development: "Development"
    ) -> LoopResult:
        spec = self._spec
        steps = spec.steps or recipe.usual_steps(len(dataset))
        rate = spec.learning_rate or recipe.learning_rate
        started = time.monotonic()

        def on_step(share: float, details: Mapping[str, float]) -> None:
            seconds = time.monotonic() - started
            self._say("training", share, {**details, "eta_s": seconds / share - seconds})

        trainable = recipe.trainable(rate, texts)
        averaging = Averaging(trainable.model, recipe.learned_share)

        def measure() -> float:
            with averaging.applied():
                return development.ndcg(recipe.scorer(), recipe.blend)

        self._say("training", 0.0)
        result = run_loop(
            trainable,
            dataset,
            LoopSettings(steps, recipe.groups, spec.seed, rate),
            self._work,
            measure if development.ranked else None,
            on_step,
        )
        averaging.apply()
        return result

    def _evaluated(
        self,
        recipe: Recipe,
        model: Path,
        parts: Parts,
        ranked: Mapping[str, RankedQuery],
        development: "Development",
    ) -> tuple[EvaluationReport, Blend]:
        self._say("evaluating", 0.0)
        served = ReadOnce(recipe.served(model))
        blend = development.blend(served, recipe.blend) if recipe.blends else RERANKER_ALONE
        decide = self._by_clicks if parts.source == "clicks" else self._by_judgments
        evaluation = decide(recipe, Model(model, served, blend), parts, ranked)
        if recipe.blends:
            evaluation = self._calibrated(evaluation, Model(model, served, blend), parts, ranked)
        return evaluation, blend

    def _calibrated(
        self, evaluation: EvaluationReport, model: Model, parts: Parts, ranked: Mapping[str, RankedQuery]
    ) -> EvaluationReport:
        """Writes the calibration beside the model, if there is one. What decides is decided by then."""
        held_out = [*parts.development, *(parts.gate if parts.source != "clicks" else ())]
        found = [ranked[query.id] for query in held_out]
        scores = score_ranked(model.scorer, found)
        doubtful = relabelled(self._examples, held_out)
        sample = Sample.of(found, scores, model.blend, held_out, parts.known, doubtful)
        evaluation, calibration = with_calibration(evaluation, sample, self._spec.ranking)
        write_calibration(model.folder, calibration)
        return evaluation

    def _by_judgments(
        self, recipe: Recipe, model: Model, parts: Parts, ranked: Mapping[str, RankedQuery]
    ) -> EvaluationReport:
        gate = [ranked[query.id] for query in parts.gate]
        float32 = recipe.exact(model.folder)
        exact = Scored(score_ranked(float32, gate, self._counted), model.blend) if float32 else None
        return evaluate_ranked(
            gate,
            {query.id: query.judgments for query in parts.gate},
            Scored(score_ranked(model.scorer, gate, self._counted), model.blend),
            self._serving(recipe, gate),
            parts.known,
            spent=self._spent().renewed(q.text for q in parts.gate).by_queries(parts.decided_by),
            kept_out=parts.kept_out,
            source=parts.source,
            compared_with=self._serving_name,
            frequency=frequency_of(self._feedback, gate),
            exact=exact,
        )

    def _by_clicks(
        self, recipe: Recipe, model: Model, parts: Parts, ranked: Mapping[str, RankedQuery]
    ) -> EvaluationReport:
        known = {question_key(query.text): query for query in ranked.values()}

        def orders_of(queries: Mapping[str, str]) -> tuple[Orders, Orders]:
            missing = {name: text for name, text in queries.items() if name not in known}
            found = known | {query.query_id: query for query in self._live.rank(missing)}
            asked = [replace(found[name], query_id=name) for name in queries]
            scored = Scored(score_ranked(model.scorer, asked, self._counted), model.blend)
            other = self._serving(recipe, asked) or fused_alone(asked)
            return orders_by(asked, scored), orders_by(asked, other)

        return evaluate_clicks(
            self._feedback,
            orders_of,
            "serving" if self._spec.serving else "fused",
            spent=self._spent().by_clicks(),
            seed=self._spec.seed % 2**32,
            compared_with=self._serving_name,
            queries=[query.text for query in parts.gate],
            unseen=[query.text for query in parts.gate if not parts.known[query.id]],
        )

    @cached_property
    def _feedback(self) -> ClickLog:
        return feedback_of(data_of(self._folder), self._spec.collection_key, self._spec.guards)

    def _spent(self) -> Spent:
        """Read when it decides: trainings that were waiting at the time of the request have decided since."""
        found = spent_on(data_of(self._folder), self._spec.collection)
        return found.without(attempt=attempt_of(self._work))

    @property
    def _serving_name(self) -> str:
        return self._spec.serving.name if self._spec.serving else ""

    def _serving(self, recipe: Recipe, gate: Sequence[RankedQuery]) -> Scored | None:
        if self._spec.serving is None:
            return None
        folder = Path(self._spec.serving.folder)
        blend = read_blend(folder) if recipe.blends else RERANKER_ALONE
        return Scored(score_ranked(recipe.served(folder), gate), blend)

    def _counted(self, done: int, of: int) -> None:
        self._say("evaluating", done / of)

    def _say(self, stage: str, share: float, details: Mapping[str, float] | None = None) -> None:
        begin, end = SHARES[stage]
        self._progress(stage, begin + share * (end - begin), details)


def steps_for(groups: int, a_step: int) -> int:
    """Enough to read so many groups once, within bounds."""
    return min(MAX_EPOCH_STEPS, max(LEAST_STEPS, math.ceil(groups / a_step)))


def _needed(groups: Sequence[Group], wanted: int, seed: int) -> list[Group]:
    """So many groups, drawn at random; all, if there are fewer."""
    if len(groups) <= wanted:
        return list(groups)
    drawn = np.random.default_rng(seed).choice(len(groups), wanted, replace=False)
    return [groups[place] for place in np.sort(drawn)]


def _with_material(
    evaluation: EvaluationReport, groups: Sequence[Group], texts: Sequence[TextGroup]
) -> EvaluationReport:
    """Adds to the report how many groups and negatives there were for training, and how many can be read."""
    mined = sum(not relevant for group in groups for relevant in group.relevant)
    read = sum(not relevant for text in texts for relevant in text.relevant)
    details = {
        "groups": {"drawn": len(groups), "usable": len(texts)},
        "negatives": {"mined": mined, "read": read},
    }
    return evaluation.model_copy(update={"details": {**evaluation.details, **details}})


def data_of(folder: Path) -> Path:
    """The server's data folder that a job's folder lies in."""
    return folder.resolve().parent.parent
