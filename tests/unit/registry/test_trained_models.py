"""What a training or a tuning has found is registered, and serves only if the collection's policy says so."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.collections.one_library import NothingLoaded, OneLibrary
from tests.unit.registry.small import Small, model_folder
from tests.unit.training.samples import report, result, spec, tuning_spec

from quarry.collections.promotion import Promotions, read_policy
from quarry.collections.ranking_promotion import Rankings
from quarry.documents.catalog import update_collection
from quarry.errors import CollectionNotFoundError, NotFoundError
from quarry.mining.sets import MiningSets
from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.ranking.ranking_configuration import RankingConfiguration
from quarry.registry.rankings import RankingVersion
from quarry.registry.trained_models import POLICY, Taken, TrainedModels, TunedRankings
from quarry.registry.versions import ModelState, ModelVersion
from quarry.training.spec import TuningResult

MANUAL, WHEN_IMPROVED, DESPITE = (
    PromotionPolicy.MANUAL,
    PromotionPolicy.WHEN_IMPROVED,
    PromotionPolicy.DESPITE_CAUTIONS,
)
CAUTIONS = ("FEW_UNSEEN", "QUANTIZATION_LOSS")
FOR_A_PERSON = "it is not promoted by itself (FEW_UNSEEN, QUANTIZATION_LOSS): that is for a person"
OTHER_VERDICTS = ["NO_IMPROVEMENT", "REGRESSED", "INSUFFICIENT_DATA"]
SERVING, CANDIDATE = ModelState.SERVING, ModelState.CANDIDATE


class Sets(MiningSets):
    """Holds what it is told of each set."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        if name not in self.known:
            raise NotFoundError(f"no set {name}")
        return self.known[name]


class Found:
    """What trainings and tunings of ``faq`` come to, under a policy that tests set."""

    def __init__(self, faq: Small) -> None:
        self.faq, self.policy, self.asked_of = faq, MANUAL, list[str]()
        self.when_asked: Callable[[], None] = lambda: None
        self.sets, self.open_collections = Sets(), OneLibrary(faq.database)
        open_collections: Any = self.open_collections
        promotions = Promotions(open_collections, faq.registry, NothingLoaded())
        self.models = TrainedModels(faq.registry, promotions, self.sets, self._read_policy)
        self.rankings = TunedRankings(Rankings(open_collections), self._read_policy)

    async def _read_policy(self, collection: str) -> PromotionPolicy:
        self.asked_of.append(collection)
        self.when_asked()
        return self.policy

    async def train(self, verdict: str = "IMPROVED", **changes: Any) -> Taken[ModelVersion]:
        cautions = changes.pop("cautions", ())
        compared = changes.pop("compared_with", "")
        kind = changes.pop("kind", "reranker")
        evaluation = report(verdict, cautions=cautions, compared_with=compared)
        folder = model_folder(self.faq.data / "made", f"weights {verdict}")
        made = result(evaluation=evaluation, kind=kind, **changes)
        return await self.models.take(spec(kind=kind, description="ours"), made, folder)

    async def tune(self, verdict: str = "IMPROVED", **changes: Any) -> Taken[RankingVersion]:
        cautions, compared = changes.pop("cautions", ()), changes.pop("compared_with", "")
        evaluation = report(verdict, cautions=cautions, compared_with=compared)
        values = {"configuration": RankingConfiguration(), "queries": 5, "source": "judgments", **changes}
        return await self.rankings.take(tuning_spec(), TuningResult(evaluation=evaluation, **values))

    async def take(self, kind: str, verdict: str = "IMPROVED", **changes: Any) -> Taken[Any]:
        return await (self.train if kind == "model" else self.tune)(verdict, **changes)

    def serves(self, kind: str) -> str:
        collection = self.faq.read_collection()
        return collection.settings.reranker if kind == "model" else collection.ranking_name


@pytest.fixture
def found(faq: Small) -> Iterator[Found]:
    yield Found(faq)


@pytest.fixture(params=["model", "ranking"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("policy", "cautions", "serves", "advice"),
    [
        (MANUAL, (), False, ""),
        (MANUAL, CAUTIONS, False, ""),
        (WHEN_IMPROVED, (), True, ""),
        (WHEN_IMPROVED, CAUTIONS, False, FOR_A_PERSON),
        (DESPITE, (), True, ""),
        (DESPITE, CAUTIONS, True, ""),
    ],
)
async def test_what_is_better_serves_at_once_if_the_policy_says_so(
    found: Found, kind: str, policy: PromotionPolicy, cautions: tuple[str, ...], serves: bool, advice: str
) -> None:
    found.policy = policy
    taken = await found.take(kind, cautions=cautions)
    assert taken.advice == advice
    assert taken.version.state is (SERVING if serves else CANDIDATE)
    assert found.serves(kind) == (taken.version.name if serves else "")
    assert taken.version.promoted_by == (POLICY if serves else "")
    assert found.asked_of == ["faq"]


@pytest.mark.parametrize("verdict", OTHER_VERDICTS)
async def test_what_is_not_better_never_serves_whatever_the_policy(
    found: Found, kind: str, verdict: str
) -> None:
    found.policy = DESPITE
    taken = await found.take(kind, verdict)
    assert (taken.version.state, taken.advice, found.serves(kind)) == (CANDIDATE, "", "")


async def test_bad_data_leaves_no_version(found: Found, kind: str) -> None:
    found.policy = DESPITE
    assert await found.take(kind, "BAD_DATA") == Taken(None)
    assert found.faq.registry.read_page("faq", None, 10) == []
    assert found.serves(kind) == ""


async def test_a_result_without_a_model_or_a_configuration_leaves_no_version(
    found: Found,
) -> None:
    assert await found.train(has_model=False) == Taken(None)
    assert await found.tune(configuration=None) == Taken(None)
    assert found.faq.registry.read_page("faq", None, 10) == []


async def test_an_encoder_never_serves_by_itself(found: Found) -> None:
    """It would need a generation of its own."""
    found.policy = DESPITE
    taken = await found.train(kind="encoder")
    assert taken.version is not None
    assert (taken.version.kind, taken.version.state, taken.advice) == ("encoder", CANDIDATE, "")
    assert (found.asked_of, found.serves("model")) == ([], "")


async def test_nothing_is_promoted_over_what_it_was_not_compared_with(found: Found, kind: str) -> None:
    found.policy = WHEN_IMPROVED
    taken = await found.take(kind, compared_with="faq@9")
    assert taken.version.state is CANDIDATE
    assert found.serves(kind) == ""
    assert taken.advice.startswith("it is not promoted: it was compared with faq@9, and ")


async def test_a_model_is_not_promoted_over_one_that_came_to_serve_meanwhile(found: Found) -> None:
    found.policy = DESPITE
    other = found.faq.register("other").name
    found.open_collections.meanwhile = lambda: found.faq.serve(other)
    taken = await found.train()
    assert taken.version is not None
    assert found.serves("model") == other
    assert taken.advice == (
        f"it is not promoted: it was compared with the fused order, and {other} serves now"
    )


async def test_a_ranking_is_not_promoted_beside_another_reranker_than_it_was_tuned_with(found: Found) -> None:
    found.policy = DESPITE
    other = found.faq.register("other").name
    found.open_collections.meanwhile = lambda: found.faq.serve(other)
    taken = await found.tune()
    assert found.serves("ranking") == ""
    assert taken.advice == (
        f"it is not promoted: it was compared when no model re-ranked, and {other} does now"
    )


async def test_a_better_model_takes_over_from_what_it_was_compared_with(found: Found, kind: str) -> None:
    found.policy = WHEN_IMPROVED
    first = await found.take(kind)
    second = await found.take(kind, compared_with=first.version.name)
    assert (second.advice, found.serves(kind)) == ("", second.version.name)


async def test_a_model_is_loaded_before_it_serves(found: Found) -> None:
    found.policy = WHEN_IMPROVED
    taken = await found.train()
    assert taken.version is not None
    assert found.open_collections.loaded == [taken.version.name]


async def test_a_version_whose_files_have_changed_does_not_serve(found: Found) -> None:
    found.policy = WHEN_IMPROVED

    def damage() -> None:
        for file in found.faq.registry.root.rglob("model.safetensors"):
            file.chmod(0o600)
            file.write_text("something else")

    found.when_asked = damage
    taken = await found.train()
    assert taken.version is not None
    assert (found.serves("model"), taken.version.state) == ("", CANDIDATE)
    assert taken.advice.startswith("it is not promoted: ")


async def test_the_history_says_that_the_policy_did_it_and_why(found: Found) -> None:
    found.policy = DESPITE
    await found.train(cautions=CAUTIONS)
    await found.tune(reranker=found.serves("model"))
    with found.faq.database.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT promoted_by, reason FROM promotions ORDER BY id").all()
    assert [tuple(row) for row in rows] == [
        ("policy", "MODEL_VERDICT_IMPROVED: the promotion policy is despite_cautions"),
        ("policy", "IMPROVED: the promotion policy is despite_cautions"),
    ]


async def test_a_version_says_what_it_came_from(found: Found) -> None:
    taken = await found.train()
    assert taken.version is not None
    assert (taken.version.source, taken.version.description) == ("training faq-1", "ours")
    assert taken.version.result is not None
    assert taken.version.result.loss == "lce"


async def test_a_version_says_when_the_feedback_of_its_mining_set_was_given(found: Found) -> None:
    class Mined:
        feedback_start_us, feedback_end_us = 11, 22

    assert (await found.train(feedback_start_us=5)).version.result.feedback_start_us == 5  # type: ignore[union-attr]
    found.sets.known["set"] = Mined()
    taken = await found.train(feedback_start_us=5)
    assert taken.version is not None
    assert taken.version.result is not None
    assert (taken.version.result.feedback_start_us, taken.version.result.feedback_end_us) == (11, 22)


async def test_nothing_is_registered_for_a_collection_that_was_deleted_and_made_again(
    found: Found, kind: str, tmp_path: Path
) -> None:
    found.policy = DESPITE
    found.faq.delete()
    found.faq.create("faq")
    with pytest.raises(CollectionNotFoundError):
        await found.take(kind)
    assert found.faq.registry.read_page("faq", None, 10) == []


@pytest.mark.parametrize(("own", "expected"), [(None, WHEN_IMPROVED), (MANUAL, MANUAL), (DESPITE, DESPITE)])
async def test_a_collection_has_its_own_policy_or_the_servers(
    faq: Small, own: PromotionPolicy | None, expected: PromotionPolicy
) -> None:
    open_collections: Any = OneLibrary(faq.database)
    await faq.database.write(lambda c: update_collection(c, "faq", None, promotion=own))
    assert await read_policy(open_collections, WHEN_IMPROVED, "faq") is expected
    with pytest.raises(CollectionNotFoundError):
        await read_policy(open_collections, WHEN_IMPROVED, "gone")


@pytest.mark.parametrize("cautions", [(), CAUTIONS])
def test_a_policy_allows_what_its_name_says(cautions: tuple[str, ...]) -> None:
    assert not MANUAL.allows(cautions)
    assert WHEN_IMPROVED.allows(cautions) is not bool(cautions)
    assert DESPITE.allows(cautions)
