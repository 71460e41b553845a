"""Mining as a whole: the same whatever the blocks and the order, and never a positive for a negative."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.miner.small import draw_texts, make_corpus, space_of, task_of

from quarry.errors import FailedPreconditionError, InvalidArgumentError
from quarry.models.calibration import Calibration
from quarry_miner.examples import Example, Float32, Int32, MiningQuery, Positive
from quarry_miner.members.ensemble import build_ensemble
from quarry_miner.members.members import Listed, Member, VectorMember
from quarry_miner.members.reranker_member import NO_BELIEF, Belief, Judge
from quarry_miner.mining.candidates import Gatherer
from quarry_miner.mining.mining import make_gatherer, mine, mine_range
from quarry_miner.mining.task import MiningTask
from quarry_miner.presets.registry import PRESETS, make_preset

CALIBRATION = Calibration(
    slope=2.0, intercept=-1.0, source="judgments", queries=40, pairs=400, relevant=40, ece=0.02, ece_all=0.01
)
TASK = task_of()
WITHOUT_NEEDS = sorted(name for name, preset in PRESETS.items() if not preset.needs)


def row(example: Example) -> dict[str, object]:
    return dataclasses.asdict(example)


def by_query(examples: list[Example]) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for example in examples:
        found.setdefault(example.query_id, []).append(row(example))
    return found


@pytest.mark.parametrize("name", WITHOUT_NEEDS)
def test_a_document_without_a_word_is_no_negative_of_any_preset(name: str) -> None:
    """Half of the corpus has none: members list it, and whoever draws from all documents would meet it."""
    words = draw_texts(6, seed=3)
    corpus = make_corpus([*words, "", " \n", "?!", "--", "...", "()"])
    asked = tuple(MiningQuery(f"q{n}", words[n].split()[0], (Positive(n),)) for n in range(6))
    space = space_of(corpus)
    listed = (VectorMember(space), VectorMember(space_of(corpus, "lsa")))
    task = MiningTask(asked, corpus, listed, space, depth=20)
    found = mine(task, make_preset(name), 4, seed=1)
    assert {example.negative_id for example in found.examples} <= {f"d{n:03}" for n in range(6)}
    if name == "random":
        assert len(found.examples) == 6 * 4


def test_what_is_relabelled_for_one_positive_is_no_negative_for_another() -> None:
    class Relabels(Judge):
        """Finds document 5 better than the first positive and worse than the second."""

        belief = Belief(calibration=CALIBRATION)

        def compute_logits(self, queries: Sequence[str], documents: Sequence[Int32]) -> list[Float32]:
            told = {0: -5.0, 1: 5.0, 5: 0.0}
            return [np.array([told.get(n, -9.0) for n in some.tolist()], np.float32) for some in documents]

    task = task_of(documents=20, queries=1, judge=Relabels())
    examples = mine(task, make_preset("relabelled"), 15, seed=1).examples
    labels = {label for e in examples if e.negative_id == "d005" for label in [e.label]}
    assert labels == {1}


FACTS = ("pairs", "covered", "positive_first")


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(WITHOUT_NEEDS),
    size=st.integers(1, 13),
    first=st.integers(0, 5),
    order=st.permutations(range(len(TASK.queries))),
)
def test_blocks_resumption_and_order_change_no_example(
    name: str, size: int, first: int, order: list[int]
) -> None:
    preset = make_preset(name)
    whole = mine(TASK, preset, 4, seed=7)
    in_blocks = mine(TASK, preset, 4, seed=7, block_queries=size)
    assert [row(e) for e in in_blocks.examples] == [row(e) for e in whole.examples]
    border, end = min(first * size, len(TASK.queries)), len(TASK.queries)
    resumed = [  # each half by a gatherer of its own, as by two processes
        one
        for part in ((0, border), (border, end))
        for one in mine_range(TASK, preset, 4, 7, make_gatherer(TASK, preset), *part)
    ]
    assert [row(e) for one in resumed for e in one.examples] == [row(e) for e in whole.examples]
    assert tuple(sum(getattr(one, name) for one in resumed) for name in FACTS) == (
        whole.pairs,
        whole.covered,
        whole.positive_first,
    )
    # in-batch draws from the positives of all queries, so the task must hold the same ones
    shuffled = dataclasses.replace(TASK, queries=tuple(TASK.queries[i] for i in order))
    assert by_query(mine(shuffled, preset, 4, seed=7).examples) == by_query(whole.examples)


def test_the_seed_changes_what_is_drawn() -> None:
    mined = [mine(TASK, make_preset("random"), 4, seed).examples for seed in (1, 2)]
    assert [e.negative_id for e in mined[0]] != [e.negative_id for e in mined[1]]


@pytest.mark.parametrize("name", WITHOUT_NEEDS)
def test_no_positive_of_a_query_becomes_its_negative_and_rows_say_where_they_come_from(name: str) -> None:
    mined = mine(TASK, make_preset(name), 5, seed=0)
    positives = {q.id: {TASK.corpus.ids[p.document] for p in q.positives} for q in TASK.queries}
    assert mined.pairs == sum(len(q.positives) for q in TASK.queries)
    assert mined.covered == len({(e.query_id, e.positive_id) for e in mined.examples if e.label == 0})
    for example in mined.examples:
        assert example.negative_id not in positives[example.query_id]
        assert example.positive_id in positives[example.query_id]
        assert example.agreement == len(example.members)
        assert example.preset == mined.preset
    vectors = TASK.space.documents.vectors
    for example in mined.examples:
        query = TASK.space.queries.embed([example.query])[0]
        numbers = [TASK.corpus.numbers[id] for id in (example.negative_id, example.positive_id)]
        negative, positive = vectors[numbers[0]], vectors[numbers[1]]
        expected = [query @ negative, query @ positive, positive @ negative]
        assert [example.s_qd, example.s_qp, example.s_pd] == pytest.approx(expected, abs=1e-5)


def test_a_positives_weight_is_that_of_its_examples() -> None:
    mined = mine(TASK, make_preset("topk"), 1, seed=0)
    weights = {(q.id, TASK.corpus.ids[p.document]): p.weight for q in TASK.queries for p in q.positives}
    assert all(e.weight == weights[e.query_id, e.positive_id] for e in mined.examples)


def test_copies_of_a_positives_text_are_left_out_and_counted() -> None:
    texts = draw_texts(20, seed=3)
    texts[5] = f"  {texts[0].upper()} "
    corpus = make_corpus(texts)
    space = space_of(corpus)
    queries = (MiningQuery("q", texts[0], (Positive(0),)),)
    task = dataclasses.replace(
        TASK, queries=queries, corpus=corpus, space=space, members=(VectorMember(space),)
    )
    mined = mine(task, make_preset("topk"), 20, seed=0)
    assert corpus.ids[5] not in {e.negative_id for e in mined.examples}
    assert any("1 candidates were left out" in note for note in mined.notes)
    drawn = mine(task, make_preset("random"), 20, seed=0)
    assert corpus.ids[5] not in {e.negative_id for e in drawn.examples}


def test_ranks_leave_positives_out_and_the_positives_ranks_count_everything() -> None:
    pairs = Gatherer(TASK, judged=False).gather(0, len(TASK.queries)).pairs
    for pair in pairs:
        query = TASK.queries[pair.query]
        own = [p.document for p in query.positives]
        for m, member in enumerate(TASK.members):
            listed = member.search([query.text], 80).documents[0].tolist()
            ranked = sorted((r, d) for r, d in zip(pair.ranks[m], pair.documents, strict=True) if r)
            assert [r for r, _ in ranked] == list(range(1, TASK.depth + 1))
            assert [d for _, d in ranked] == [d for d in listed if d not in own][: TASK.depth]
            assert pair.positive_ranks[m] in (0, listed.index(pair.positive.document) + 1)
        assert (np.diff(pair.s_qd) <= 0).all()


class Unlabelled:
    """Another member, whose scores do not say in which space they are measured."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.name = member.name

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        return dataclasses.replace(self._member.search(queries, depth), space=None)


@pytest.mark.parametrize("depth", [5, 20])
def test_a_members_own_similarities_are_those_that_would_be_measured(depth: int) -> None:
    task = dataclasses.replace(TASK, depth=depth)
    unknown = dataclasses.replace(task, members=tuple(map(Unlabelled, task.members)))
    for name in WITHOUT_NEEDS:
        found = [mine(one, make_preset(name), 4, seed=7).examples for one in (task, unknown)]
        assert [row(e) for e in found[0]] == [row(e) for e in found[1]]


class JudgeByCompany:
    """Gives other scores in other company, as a model does in the last digits."""

    belief = NO_BELIEF

    def compute_logits(self, queries: Sequence[str], documents: Sequence[Int32]) -> list[Float32]:
        company = sum(map(len, documents))
        return [
            np.sin(np.arange(len(some)) + len(q) + company).astype(np.float32)
            for q, some in zip(queries, documents, strict=True)
        ]


def test_a_judges_scores_do_not_depend_on_the_queries_beside() -> None:
    task = dataclasses.replace(TASK, judge=JudgeByCompany())
    mined = [mine(task, make_preset("refresh"), 4, 7, block_queries=size) for size in (1, 5, 12)]
    found = [[row(e) for e in one.examples] for one in mined]
    assert found[0] == found[1] == found[2]


def test_the_2025_rule_covers_at_most_the_pairs_whose_positive_is_not_first() -> None:
    parts = [space_of(TASK.corpus, "dense"), space_of(TASK.corpus, "lsa")]
    for kept in (0.5, 0.95):
        space, _ = build_ensemble(parts, kept)
        task = dataclasses.replace(TASK, space=space, members=(VectorMember(space),))
        mined = mine(task, make_preset("enterprise-2025"), 1, seed=0)
        assert 0 < mined.covered <= mined.pairs - mined.positive_first
        assert mined.positive_first > 0


def test_a_preset_says_what_it_misses() -> None:
    with pytest.raises(FailedPreconditionError, match="clicks"):
        mine(TASK, make_preset("neighborhood"), 3, 0)
    with pytest.raises(FailedPreconditionError, match="re-ranker"):
        mine(TASK, make_preset("denoised"), 3, 0)


def test_progress_is_told_after_each_block() -> None:
    told: list[tuple[int, int]] = []
    mine(task_of(documents=3_300, queries=1_100), make_preset("topk"), 1, 0, lambda *at: told.append(at))
    assert told == [(1_024, 1_100), (1_100, 1_100)]


@pytest.mark.parametrize(
    "queries",
    [
        (MiningQuery("q", "x", ()),),
        (MiningQuery("q", "x", (Positive(80),)),),
        (MiningQuery("q", "x", (Positive(1), Positive(1))),),
        (MiningQuery("q", "x", (Positive(1),)), MiningQuery("q", "y", (Positive(2),))),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(queries: tuple[MiningQuery, ...]) -> None:
    with pytest.raises(InvalidArgumentError):
        dataclasses.replace(TASK, queries=queries)
