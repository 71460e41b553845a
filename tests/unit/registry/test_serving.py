"""Who served when: promotions are laid on a stack, rollbacks take them off."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.registry.small import RESULT, Small, model_folder

from quarry.documents.catalog import Collection
from quarry.errors import FailedPreconditionError, ModelNotFoundError, UnprovenRerankerError
from quarry.ranking.cascade import OWN, RerankStage
from quarry.registry.serving import check_proven, is_unproven, list_served_before
from quarry.registry.versions import ModelState


class Row:
    def __init__(self, model: str, previous: str, rollback: bool) -> None:
        self.model, self.previous, self.rollback = model, previous, rollback


def test_rollbacks_walk_back_to_no_reranker_and_no_further(faq: Small) -> None:
    for text in "abc":
        faq.register(text)
    assert faq.earlier() is None
    for number in (1, 2, 3):
        faq.serve(f"faq@{number}")
    walked = []
    while (target := faq.earlier()) is not None:
        faq.serve(target, rollback=True)
        walked.append(target)
        assert faq.read_collection().settings.reranker == target
    assert walked == ["faq@2", "faq@1", ""]


def test_a_promotion_after_a_rollback_goes_back_to_what_was_rolled_back_to(faq: Small) -> None:
    for text in "abc":
        faq.register(text)
    faq.serve("faq@1")
    faq.serve("faq@2")
    faq.serve("faq@1", rollback=True)
    faq.serve("faq@3")
    assert faq.earlier() == "faq@1"


def test_retired_versions_are_passed_over(faq: Small) -> None:
    for text in "abc":
        faq.register(text)
    for number in (1, 2, 3):
        faq.serve(f"faq@{number}")
    faq.registry.retire("faq@2")
    assert faq.earlier() == "faq@1"
    faq.serve("faq@1", rollback=True)
    assert faq.earlier() == ""


def test_a_reranker_that_is_no_version_is_gone_back_to_as_well(faq: Small) -> None:
    faq.register()
    faq.serve("a-package")
    faq.serve("faq@1")
    assert faq.earlier() == "a-package"
    assert faq.registry.list_kept() == {"faq@1", "a-package"}


def test_only_a_verdict_of_better_proves_a_reranker(faq: Small) -> None:
    worse = RESULT.evaluation.model_copy(update={"verdict": "REGRESSED"})
    for number, result in enumerate((RESULT, RESULT.model_copy(update={"evaluation": worse}), None)):
        folder = model_folder(faq.data / "made" / str(number), str(number))
        faq.registry.register("faq", "reranker", folder, result)

    def check(model: str) -> None:
        before = faq.read_collection()
        after = replace(before, settings=replace(before.settings, reranker=model))
        faq.database.read(lambda c: check_proven(c, before, after))

    check("faq@1")
    check("")
    for model, said in (("faq@2", "REGRESSED"), ("faq@3", "no verdict"), ("a-package", "no verdict")):
        with pytest.raises(UnprovenRerankerError, match=said):
            check(model)
        faq.serve(model)
        check(model)
        assert faq.database.read(lambda c: is_unproven(c, faq.read_collection()))
    faq.serve("faq@1")
    assert not faq.database.read(lambda c: is_unproven(c, faq.read_collection()))


def test_every_stage_of_a_cascade_is_to_be_proven(faq: Small) -> None:
    worse = RESULT.evaluation.model_copy(update={"verdict": "REGRESSED"})
    for number, result in enumerate((RESULT, RESULT.model_copy(update={"evaluation": worse}))):
        folder = model_folder(faq.data / "made" / str(number), str(number))
        faq.registry.register("faq", "reranker", folder, result)
    faq.serve("faq@1")
    one = faq.read_collection()

    def add_stage(model: str) -> Collection:
        cascade = (RerankStage(model, 50), RerankStage(OWN, 20))
        return replace(one, settings=replace(one.settings, cascade=cascade))

    def check(before: Collection, after: Collection) -> None:
        faq.database.read(lambda c: check_proven(c, before, after))

    proven, unproven = add_stage("faq@1"), add_stage("faq@2")
    check(one, proven)
    with pytest.raises(UnprovenRerankerError, match="REGRESSED"):
        check(one, unproven)
    check(unproven, unproven)
    check(unproven, one)
    assert not faq.database.read(lambda c: is_unproven(c, proven))
    assert faq.database.read(lambda c: is_unproven(c, unproven))
    promoted = replace(unproven, settings=replace(unproven.settings, reranker="faq@2"))
    with pytest.raises(UnprovenRerankerError, match="REGRESSED"):
        check(unproven, promoted)


def test_serving_what_serves_changes_nothing(faq: Small) -> None:
    faq.register()
    faq.serve("faq@1")
    faq.serve("faq@1")
    assert faq.earlier() == ""


def test_a_version_says_whether_it_serves_and_who_promoted_it(faq: Small) -> None:
    faq.register("a")
    faq.register("b")
    faq.serve("faq@1")
    faq.serve("faq@2")
    first, second = faq.registry.get("faq@1"), faq.registry.get("faq@2")
    assert (first.state, second.state) == (ModelState.CANDIDATE, ModelState.SERVING)
    assert second.promoted_by == "me"
    assert first.promote_time_us is not None
    assert second.promote_time_us is not None
    assert first.promote_time_us <= second.promote_time_us


def test_what_must_not_serve_is_refused_and_nothing_changes(faq: Small) -> None:
    faq.register("a", kind="encoder")
    faq.create("other")
    before = faq.read_collection()
    for name, error in (
        ("faq@1", FailedPreconditionError),
        ("faq@9", ModelNotFoundError),
        ("other@1", ModelNotFoundError),
    ):
        with pytest.raises(error):
            faq.serve(name)
    assert faq.read_collection() == before
    assert faq.earlier() is None


def test_who_wants_to_rerank_by_an_encoder_is_told_what_to_type(faq: Small) -> None:
    faq.register("a", kind="encoder")
    with pytest.raises(FailedPreconditionError, match="`quarry collection reindex faq --encoder faq@1`"):
        faq.serve("faq@1")


def test_another_collections_version_is_refused(faq: Small) -> None:
    faq.register()
    faq.create("other")
    with pytest.raises(FailedPreconditionError, match="another collection"):
        faq.serve("faq@1", collection="other")


@given(moves=st.lists(st.sampled_from(["a", "b", "c", "", None]), max_size=12))
def test_the_history_is_a_stack(moves: list[str | None]) -> None:
    """``None`` goes back to the last one that is another; a model is promoted."""
    stack, rows = ["start"], []
    for move in moves:
        if move is not None and move != stack[-1]:
            rows.append(Row(move, stack[-1], False))
            stack.append(move)
        elif move is None and len(stack) > 1:
            now = stack.pop()
            rows.append(Row(stack[-1], now, True))
    assert list_served_before(rows) == (stack[:-1] if rows else [])
