"""One training from its examples to an evaluated model, whatever kind of model it is."""

import time
from pathlib import Path

from quarry.jobs.child import ProgressReporter
from quarry.models.blend import RERANKER_ALONE, write_blend
from quarry.training.folders import MODEL, find_work, locate_data, name_attempt
from quarry.training.spec import TrainingResult, TrainingSpec
from quarry_trainer.data.absent_documents import add_absent
from quarry_trainer.data.contradictions import add_disputed
from quarry_trainer.data.dataset import BadExamplesError, Examples, read_examples
from quarry_trainer.data.live import LiveSearch, open_search
from quarry_trainer.data.training_data import TrainingData
from quarry_trainer.evaluation.scoring import ReadOnce
from quarry_trainer.evaluation.trained_model import TrainedModel, judge_model
from quarry_trainer.trainings.blending import choose_blend
from quarry_trainer.trainings.development import Development
from quarry_trainer.trainings.recipe import OpenRecipe
from quarry_trainer.trainings.results import make_result, refuse
from quarry_trainer.trainings.stages import Stages
from quarry_trainer.trainings.weights import train_weights


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
            return _train(spec, examples, live, folder, Stages(progress), open_recipe, started)
    except BadExamplesError as error:
        return refuse(spec, error, started, examples)


def _train(
    spec: TrainingSpec,
    examples: Examples,
    live: LiveSearch,
    folder: Path,
    stages: Stages,
    open_recipe: OpenRecipe,
    started: float,
) -> TrainingResult:
    work, model = find_work(folder, spec), folder / MODEL
    recipe = open_recipe(spec, locate_data(folder), work)
    counter = stages.make_counter("candidates")
    data = TrainingData.gather(spec, examples, live, recipe.most_groups, work, counter)
    prepared = recipe.prepare(list(data.texts))
    development = Development.from_split(data.split, data.ranked, data.entities)
    loop = train_weights(prepared, spec.seed, work, stages.begin_training(), development)
    prepared.save(model)
    data.provenance.write(model)
    stages.report("evaluating", 0.0)
    served = ReadOnce(prepared.served.load(model))
    blend = choose_blend(served, prepared.blend, development) if prepared.blends else RERANKER_ALONE
    evaluation = judge_model(
        spec,
        TrainedModel(model, served, prepared.blends, blend, name_attempt(work)),
        prepared.served,
        data,
        live,
        locate_data(folder),
        stages.make_counter("evaluating"),
    )
    if prepared.blends:
        write_blend(model, blend)
    return make_result(
        spec,
        add_absent(add_disputed(evaluation, data.disputed), data.absent, spec.judgments),
        started,
        model,
        loop,
        blend,
        examples,
        usable=data.count_usable(),
        notes=data.describe_unreached(prepared.steps),
        attempt=name_attempt(work),
        decided_by=data.split.decided_by,
    )
