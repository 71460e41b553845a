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
from quarry.jobs.child import ProgressReporter
from quarry.mining.spec import JudgedQuery
from quarry.models.blend import RERANKER_ALONE, Blend, read_blend, write_blend
from quarry.models.calibration import write_calibration
from quarry.questions import make_question_key
from quarry.registry.evidence_use import EvidenceUse
from quarry.training.folders import MODEL, find_work, name_attempt
from quarry.training.spec import MAX_EPOCH_STEPS, EvaluationReport, TrainingResult, TrainingSpec
from quarry_trainer.data.dataset import (
    BadExamplesError,
    Examples,
    Group,
    GroupDataset,
    TextGroup,
    read_examples,
)
from quarry_trainer.data.entities import Entities, find_entities
from quarry_trainer.data.judged_sample import CandidateSample, find_relabelled
from quarry_trainer.data.live import DEPTH, LiveSearch, RankedQuery, open_search
from quarry_trainer.data.model_memory import Memory, make_provenance, read_before, with_memory
from quarry_trainer.data.training_data import (
    QuerySplit,
    make_text_groups,
    rank_once,
    split_queries,
)
from quarry_trainer.evaluation.calibrating import with_calibration
from quarry_trainer.evaluation.click_evaluation import evaluate_clicks
from quarry_trainer.evaluation.model_evaluation import (
    Scored,
    count_frequency,
    evaluate_ranked,
    order_by_scores,
    read_displays,
    read_evidence_use,
    score_by_fusion,
)
from quarry_trainer.evaluation.scoring import PairModel, ReadOnce, score_ranked
from quarry_trainer.learning.averaging import Averaging
from quarry_trainer.learning.training_loop import LoopResult, Trainable, TrainingLoopSettings, run_loop
from quarry_trainer.measures import Orders
from quarry_trainer.trainings.development import Development
from quarry_trainer.trainings.results import make_result, refuse

LEAST_STEPS = 50
"""Of a training that is not told how many: a small set is read more than once."""

SHARES = {"candidates": (0.0, 0.1), "training": (0.1, 0.75), "evaluating": (0.75, 1.0)}
"""Where each stage begins and ends in the progress of the whole."""


class Recipe(Protocol):
    """The training of one kind of model. Made with the model open.

    Attributes:
        groups: read in each step.
        group_size: documents of a group that are read at a time.
        learned_share: of the way from the weights that it began with to those that it ended with.
        learning_rate: unless something else is asked for.
        blends: its score is blended with the fused one.
        blend: how its score and the fused one are added while it is trained; known after
            ``prepare``.
    """

    groups: int
    group_size: int
    learned_share: float
    learning_rate: float
    blends: bool
    blend: Blend

    def choose_steps(self, groups: int) -> int:
        """Chooses the steps of a training on so many groups that is not told how many to make."""
        ...

    def prepare(self, texts: list[TextGroup]) -> list[TextGroup]:
        """Returns the groups as the loss needs them."""
        ...

    def make_trainable(self, learning_rate: float, texts: Sequence[TextGroup]) -> Trainable:
        """Makes the trainable of all ``texts`` that it is going to be trained on, as they were prepared."""
        ...

    def make_scorer(self) -> PairModel:
        """Makes a scorer of the model as it is now."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the model as it can be served."""
        ...

    def load_served(self, folder: Path) -> PairModel:
        """Loads a model as it is served: exported, its scores compared with torch's."""
        ...

    def load_exact(self, folder: Path) -> PairModel | None:
        """Loads the same in float32; None if it serves in that."""
        ...


class OpenRecipe(Protocol):
    """Makes a recipe for a job, whose unfinished work lies in ``work``."""

    def __call__(self, spec: TrainingSpec, data: Path, work: Path) -> Recipe: ...


def train(
    spec: TrainingSpec, folder: Path, progress: ProgressReporter, open_recipe: OpenRecipe
) -> TrainingResult:
    """Does what ``spec`` asks; the model is in ``folder / "model"`` afterwards, if there is one.

    Examples that nothing can be learned from are a result without a model.

    Raises:
        QuarryError: the server, a model or the examples cannot be read.
    """
    started, data = time.monotonic(), locate_data(folder)
    assert spec.examples is not None  # noqa: S101  the request was checked
    examples: Examples | None = None
    try:
        examples = read_examples(Path(spec.examples), spec.max_text_bytes)
        with open_search(data, spec.server, spec.collection, spec.collection_key, spec.ranking) as live:
            return _Training(spec, examples, live, folder, progress, open_recipe).run(started)
    except BadExamplesError as error:
        return refuse(spec, error, started, examples)


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
        progress: ProgressReporter,
        open_recipe: OpenRecipe,
    ) -> None:
        self._spec, self._examples, self._live = spec, examples, live
        self._folder, self._progress, self._open_recipe = folder, progress, open_recipe
        self._work = find_work(folder, spec)

    def run(self, started: float) -> TrainingResult:
        spec = self._spec
        recipe = self._open_recipe(spec, locate_data(self._folder), self._work)
        before = read_before(spec)
        parts = split_queries(
            self._examples,
            spec.judgments,
            Memory(before, spec.collection),
            self._find_entities(spec.judgments),
        )
        wanted = recipe.groups * (spec.steps or recipe.choose_steps(len(parts.train)))
        groups = _draw_needed(parts.train, wanted, spec.seed)
        ranked = self._rank(groups, parts)
        dropped = self._examples.dropped
        texts = make_text_groups(groups, ranked, self._live.matching_passages, dropped)
        if not texts:
            raise BadExamplesError("of no example are both the positive and a negative in the collection")
        texts = recipe.prepare(texts)
        dataset = GroupDataset(texts, recipe.group_size, spec.seed)
        choosing = [ranked[query.id] for query in parts.development]
        development = Development(choosing, parts.development, parts.known)
        loop = self._train(recipe, texts, dataset, development)
        model = self._folder / MODEL
        recipe.save(model)
        (before | make_provenance(groups, spec.collection)).write(model)
        evaluation, blend = self._evaluate(recipe, model, parts, ranked, development)
        evaluation = with_memory(evaluation, before, parts.kept_out)
        evaluation = _with_material(evaluation, groups, texts)
        if recipe.blends:
            write_blend(model, blend)
        return make_result(
            spec,
            evaluation,
            started,
            model,
            loop,
            blend,
            self._examples,
            attempt=name_attempt(self._work),
            decided_by=parts.decided_by,
        )

    def _find_entities(self, judged: Sequence[JudgedQuery]) -> Entities:
        own = (id for grades in self._examples.positives.values() for id in grades)
        given = (id for query in judged for id, grade in query.judgments.items() if grade > 0)
        return find_entities([*own, *given], self._live.titles)

    def _rank(self, groups: Sequence[Group], parts: QuerySplit) -> dict[str, RankedQuery]:
        texts = {group.query_id: group.query for group in groups}
        held_out = {query.id: query.text for query in (*parts.development, *parts.gate)}

        def report_count(done: int, of: int) -> None:
            self._say("candidates", done / of)

        return rank_once(self._live, texts | held_out, DEPTH, self._work, report_count)

    def _train(
        self, recipe: Recipe, texts: Sequence[TextGroup], dataset: GroupDataset, development: "Development"
    ) -> LoopResult:
        spec = self._spec
        steps = spec.steps or recipe.choose_steps(len(dataset))
        rate = spec.learning_rate or recipe.learning_rate
        started = time.monotonic()

        def on_step(share: float, details: Mapping[str, float]) -> None:
            seconds = time.monotonic() - started
            self._say("training", share, {**details, "eta_s": seconds / share - seconds})

        trainable = recipe.make_trainable(rate, texts)
        averaging = Averaging(trainable.model, recipe.learned_share)

        def measure() -> float:
            with averaging.use_average():
                return development.measure_ndcg(recipe.make_scorer(), recipe.blend)

        self._say("training", 0.0)
        result = run_loop(
            trainable,
            dataset,
            TrainingLoopSettings(steps, recipe.groups, spec.seed, rate),
            self._work,
            measure if development.ranked else None,
            on_step,
        )
        averaging.apply()
        return result

    def _evaluate(
        self,
        recipe: Recipe,
        model: Path,
        parts: QuerySplit,
        ranked: Mapping[str, RankedQuery],
        development: "Development",
    ) -> tuple[EvaluationReport, Blend]:
        self._say("evaluating", 0.0)
        served = ReadOnce(recipe.load_served(model))
        blend = development.choose_blend(served, recipe.blend) if recipe.blends else RERANKER_ALONE
        decide = self._judge_by_clicks if parts.source == "clicks" else self._judge_by_judgments
        evaluation = decide(recipe, Model(model, served, blend), parts, ranked)
        if recipe.blends:
            evaluation = self._calibrate(evaluation, Model(model, served, blend), parts, ranked)
        return evaluation, blend

    def _calibrate(
        self, evaluation: EvaluationReport, model: Model, parts: QuerySplit, ranked: Mapping[str, RankedQuery]
    ) -> EvaluationReport:
        """Writes the calibration beside the model, if there is one. What decides is decided by then."""
        held_out = [*parts.development, *(parts.gate if parts.source != "clicks" else ())]
        found = [ranked[query.id] for query in held_out]
        scores = score_ranked(model.scorer, found)
        doubtful = find_relabelled(self._examples, held_out)
        sample = CandidateSample.from_ranked(found, scores, model.blend, held_out, parts.known, doubtful)
        evaluation, calibration = with_calibration(evaluation, sample, self._spec.ranking)
        write_calibration(model.folder, calibration)
        return evaluation

    def _judge_by_judgments(
        self, recipe: Recipe, model: Model, parts: QuerySplit, ranked: Mapping[str, RankedQuery]
    ) -> EvaluationReport:
        gate = [ranked[query.id] for query in parts.gate]
        float32 = recipe.load_exact(model.folder)
        exact = Scored(score_ranked(float32, gate, self._make_counter), model.blend) if float32 else None
        return evaluate_ranked(
            gate,
            {query.id: query.judgments for query in parts.gate},
            Scored(score_ranked(model.scorer, gate, self._make_counter), model.blend),
            self._score_serving(recipe, gate),
            parts.known,
            earlier_decisions=self._read_evidence_use()
            .renew_marks(q.text for q in parts.gate)
            .count_by_queries(parts.decided_by),
            kept_out=parts.kept_out,
            source=parts.source,
            compared_with=self._serving_name,
            frequency=count_frequency(self._feedback, gate),
            exact=exact,
        )

    def _judge_by_clicks(
        self, recipe: Recipe, model: Model, parts: QuerySplit, ranked: Mapping[str, RankedQuery]
    ) -> EvaluationReport:
        known = {make_question_key(query.text): query for query in ranked.values()}

        def order_queries(queries: Mapping[str, str]) -> tuple[Orders, Orders]:
            missing = {name: text for name, text in queries.items() if name not in known}
            found = known | {query.query_id: query for query in self._live.rank(missing)}
            asked = [replace(found[name], query_id=name) for name in queries]
            scored = Scored(score_ranked(model.scorer, asked, self._make_counter), model.blend)
            other = self._score_serving(recipe, asked) or score_by_fusion(asked)
            return order_by_scores(asked, scored), order_by_scores(asked, other)

        return evaluate_clicks(
            self._feedback,
            order_queries,
            "serving" if self._spec.serving else "fused",
            earlier_decisions=self._read_evidence_use().count_by_clicks(),
            seed=self._spec.seed % 2**32,
            compared_with=self._serving_name,
            queries=[query.text for query in parts.gate],
            unseen=[query.text for query in parts.gate if not parts.known[query.id]],
        )

    @cached_property
    def _feedback(self) -> ClickLog:
        return read_displays(locate_data(self._folder), self._spec.collection_key, self._spec.guards)

    def _read_evidence_use(self) -> EvidenceUse:
        """Reads it when it decides: trainings that waited when this was asked for have decided since."""
        found = read_evidence_use(locate_data(self._folder), self._spec.collection)
        return found.exclude(attempt=name_attempt(self._work))

    @property
    def _serving_name(self) -> str:
        return self._spec.serving.name if self._spec.serving else ""

    def _score_serving(self, recipe: Recipe, gate: Sequence[RankedQuery]) -> Scored | None:
        if self._spec.serving is None:
            return None
        folder = Path(self._spec.serving.folder)
        blend = read_blend(folder) if recipe.blends else RERANKER_ALONE
        return Scored(score_ranked(recipe.load_served(folder), gate), blend)

    def _make_counter(self, done: int, of: int) -> None:
        self._say("evaluating", done / of)

    def _say(self, stage: str, share: float, details: Mapping[str, float] | None = None) -> None:
        begin, end = SHARES[stage]
        self._progress(stage, begin + share * (end - begin), details)


def choose_step_count(groups: int, a_step: int) -> int:
    """Chooses enough to read so many groups once, within bounds."""
    return min(MAX_EPOCH_STEPS, max(LEAST_STEPS, math.ceil(groups / a_step)))


def _draw_needed(groups: Sequence[Group], wanted: int, seed: int) -> list[Group]:
    """Draws so many groups at random; all, if there are fewer."""
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


def locate_data(folder: Path) -> Path:
    """Locates the server's data folder that a job's folder lies in."""
    return folder.resolve().parent.parent
