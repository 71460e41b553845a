"""Judges a model that was just trained by what its training held out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from quarry.clicks.log import ClickLog
from quarry.models.blend import RERANKER_ALONE, Blend, read_blend
from quarry.models.calibration import write_calibration
from quarry.questions import make_question_key
from quarry.registry.evidence_use import EvidenceUse
from quarry.training.spec import EvaluationReport, TrainingSpec
from quarry_trainer.data.judged_sample import CandidateSample
from quarry_trainer.data.live import Counted, LiveSearch, RankedQuery
from quarry_trainer.data.training_data import TrainingData
from quarry_trainer.evaluation.calibrating import with_calibration
from quarry_trainer.evaluation.click_evaluation import evaluate_clicks
from quarry_trainer.evaluation.evidence import count_frequency, read_displays, read_evidence_use
from quarry_trainer.evaluation.judgment_evaluation import evaluate_ranked
from quarry_trainer.evaluation.lineage import add_lineage
from quarry_trainer.evaluation.orders import Scored, order_by_scores, score_by_fusion
from quarry_trainer.evaluation.scoring import PairModel, score_ranked
from quarry_trainer.measures import Orders


class ServedModelLoader(Protocol):
    """Loads models of one kind as a server serves them."""

    def load(self, folder: Path) -> PairModel:
        """Loads the model in ``folder``: exported, its scores compared with torch's."""
        ...

    def load_exact(self, folder: Path) -> PairModel | None:
        """Loads the same in float32; None if it serves in that."""
        ...


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model as it serves.

    Attributes:
        blends: its score is blended with the fused one, by ``blend``.
        attempt: name of the training; what it has decided before does not count against it.
    """

    folder: Path
    scorer: PairModel
    blends: bool
    blend: Blend
    attempt: str


def judge_model(
    spec: TrainingSpec,
    model: TrainedModel,
    served: ServedModelLoader,
    data: TrainingData,
    live: LiveSearch,
    data_folder: Path,
    counted: Counted,
) -> EvaluationReport:
    """Judges ``model``; the calibration of one that blends is written beside it, if there is one.

    Args:
        served: loads what serves now, and the model in float32.
        data_folder: of the server.
    """
    return _Trial(spec, model, served, data, live, data_folder, counted).judge()


@dataclass(frozen=True)
class _Trial:
    spec: TrainingSpec
    model: TrainedModel
    served: ServedModelLoader
    data: TrainingData
    live: LiveSearch
    data_folder: Path
    counted: Counted

    def judge(self) -> EvaluationReport:
        split = self.data.split
        report = self._judge_by_clicks() if split.source == "clicks" else self._judge_by_judgments()
        if self.model.blends:
            report = self._calibrate(report)
        return add_lineage(report, self.data.base_provenance, split.kept_out)

    def _judge_by_judgments(self) -> EvaluationReport:
        split, model = self.data.split, self.model
        gate = [self.data.ranked[query.id] for query in split.gate]
        float32 = self.served.load_exact(model.folder)
        exact = Scored(score_ranked(float32, gate, self.counted), model.blend) if float32 else None
        return evaluate_ranked(
            gate,
            {query.id: query.judgments for query in split.gate},
            self._score(gate),
            self._score_serving(gate),
            split.known,
            earlier_decisions=self._read_evidence_use()
            .renew_marks(q.text for q in split.gate)
            .count_by_queries(split.decided_by),
            kept_out=split.kept_out,
            source=split.source,
            compared_with=self._serving_name,
            frequency=count_frequency(self._feedback, gate),
            exact=exact,
            entities=self.data.entities,
        )

    def _judge_by_clicks(self) -> EvaluationReport:
        split = self.data.split
        return evaluate_clicks(
            self._feedback,
            self._order_queries,
            "serving" if self.spec.serving else "fused",
            earlier_decisions=self._read_evidence_use().count_by_clicks(),
            seed=self.spec.seed % 2**32,
            compared_with=self._serving_name,
            queries=[query.text for query in split.gate],
            unseen=[query.text for query in split.gate if not split.known[query.id]],
        )

    def _order_queries(self, queries: Mapping[str, str]) -> tuple[Orders, Orders]:
        """Orders queries, given as texts by name, by the model and by what it is compared with."""
        known = {make_question_key(query.text): query for query in self.data.ranked.values()}
        missing = {name: text for name, text in queries.items() if name not in known}
        found = known | {query.query_id: query for query in self.live.rank(missing)}
        asked = [replace(found[name], query_id=name) for name in queries]
        scored = self._score(asked)
        other = self._score_serving(asked) or score_by_fusion(asked)
        return order_by_scores(asked, scored), order_by_scores(asked, other)

    def _calibrate(self, report: EvaluationReport) -> EvaluationReport:
        """Writes the calibration beside the model, if there is one. What decides is decided by then."""
        split, model = self.data.split, self.model
        held_out = [*split.development, *(split.gate if split.source != "clicks" else ())]
        ranked = [self.data.ranked[query.id] for query in held_out]
        scores = score_ranked(model.scorer, ranked)
        doubtful = self.data.relabelled
        sample = CandidateSample.from_ranked(
            ranked, scores, model.blend, held_out, split.known, doubtful, self.data.entities
        )
        report, calibration = with_calibration(report, sample, self.spec.ranking)
        write_calibration(model.folder, calibration)
        return report

    def _score(self, ranked: Sequence[RankedQuery]) -> Scored:
        return Scored(score_ranked(self.model.scorer, ranked, self.counted), self.model.blend)

    def _score_serving(self, ranked: Sequence[RankedQuery]) -> Scored | None:
        if self.spec.serving is None:
            return None
        folder = Path(self.spec.serving.folder)
        blend = read_blend(folder) if self.model.blends else RERANKER_ALONE
        return Scored(score_ranked(self.served.load(folder), ranked), blend)

    @cached_property
    def _feedback(self) -> ClickLog:
        return read_displays(self.data_folder, self.spec.collection_key, self.spec.guards)

    def _read_evidence_use(self) -> EvidenceUse:
        """Reads it when it decides: trainings that waited when this was asked for have decided since."""
        found = read_evidence_use(self.data_folder, self.spec.collection)
        return found.exclude(attempt=self.model.attempt)

    @property
    def _serving_name(self) -> str:
        return self.spec.serving.name if self.spec.serving else ""
