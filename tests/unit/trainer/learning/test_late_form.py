"""Late interaction learns from real questions, begins at the best sum, and goes on after a kill alike."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model
from quarry.testing import make_tiny_encoder
from quarry_trainer.data.dataset import GroupDataset, TextGroup
from quarry_trainer.learning.averaging import Averaging
from quarry_trainer.learning.late_form import LateForm
from quarry_trainer.learning.late_start import LEAST_SCALE, fit_start
from quarry_trainer.learning.listwise import GROUP_SIZE, GROUPS_A_STEP, make_listwise
from quarry_trainer.learning.offset import NEW_OFFSET
from quarry_trainer.learning.trainable_forms import FormScorer, open_form, start_folder
from quarry_trainer.learning.training_loop import TrainingLoopSettings, run_loop
from quarry_trainer.trainings.reranker import LEARNED_SHARES, RATES

DATA = Path(__file__).parents[4] / "examples" / "data" / "stackfaq-webapps"
DOCUMENTS, STEPS = 40, 200
WORDS = ["bado", "cobe", "fidu", "nami", "gira", "mo", "lute", "sapo", "bine", "tari", "nolo", "rata"]


def late(encoder: Path, folder: Path) -> LateForm:
    form = open_form(start_folder(encoder, "late", 0, folder / "late"), 64, 0)
    assert isinstance(form, LateForm)
    return form


def group(query: str, positive: str, others: list[str], fused: list[float] | None = None) -> TextGroup:
    passages = (positive, *others)
    return TextGroup(
        query=query,
        documents=tuple(map(str, range(len(passages)))),
        passages=passages,
        fused=tuple(fused) if fused else (0.5,) * len(passages),
        relevant=(True, *[False] * len(others)),
        weights=(1.0,) * len(passages),
    )


def made_up(seed: int, fused_tells: bool = False) -> list[TextGroup]:
    """The positive has one rare word of the query; all passages have the others."""
    random = np.random.default_rng(seed)
    groups = []
    for _ in range(24):
        query = list(random.choice(WORDS, 3, replace=False))
        passages = [" ".join(random.choice(WORDS, 5)) for _ in range(4)]
        fused = [1.0, 0.2, 0.3, 0.1] if fused_tells else random.uniform(0, 0.05, 4).tolist()
        groups.append(group(" ".join(query), passages[0] + " " + query[0], passages[1:], fused))
    return groups


def trained(form: LateForm, groups: list[TextGroup], folder: Path, steps: int, **more: object) -> None:
    rate, offset = RATES["late"], NEW_OFFSET
    fit_start(form, groups, offset)
    trainable = make_listwise(form, "lce", rate, offset)
    averaging = Averaging(trainable.model, LEARNED_SHARES["late"])
    settings = TrainingLoopSettings(steps, GROUPS_A_STEP, 3, rate)
    on_step = more.get("on_step", lambda _share, _said: None)
    run_loop(trainable, GroupDataset(groups, GROUP_SIZE, 3), settings, folder, None, on_step)  # type: ignore[arg-type]
    averaging.apply()


def read_stackfaq() -> tuple[list[TextGroup], list[TextGroup]]:
    """Groups of questions to learn from, and of others that ask for the same documents."""
    texts = {r["_id"]: r["text"] for r in map(json.loads, (DATA / "corpus.jsonl").read_text().splitlines())}
    asked = {r["_id"]: r["text"] for r in map(json.loads, (DATA / "queries.jsonl").read_text().splitlines())}
    rows = [line.split("\t") for line in (DATA / "qrels" / "known-train.tsv").read_text().splitlines()[1:]]
    answers: dict[str, list[str]] = {}
    for query, document, _ in rows:
        answers.setdefault(document, []).append(query)
    several = [document for document, queries in answers.items() if len(queries) >= 4][:DOCUMENTS]
    random = np.random.default_rng(0)

    def groups(first: int, end: int) -> list[TextGroup]:
        made = []
        for document in several:
            others = [texts[other] for other in random.permutation(several)[:GROUP_SIZE] if other != document]
            made += [group(asked[q], texts[document], others[:7]) for q in answers[document][first:end]]
        return made

    return groups(0, 3), groups(3, 4)


def share_first(form: LateForm, groups: list[TextGroup]) -> float:
    """Of the groups, how many have their positive first."""
    scores = FormScorer(form).score([(one.query, passage) for one in groups for passage in one.passages])
    found = np.split(np.array([s.score for s in scores]), np.cumsum([len(g.passages) for g in groups])[:-1])
    return float(np.mean([one.argmax() == 0 for one in found]))


def test_trained_on_real_questions_it_finds_more_answers(tmp_path: Path) -> None:
    learned, held_out = read_stackfaq()
    form = late(resolve_model(DEFAULT_ENCODER).path, tmp_path)
    before = share_first(form, held_out)
    trained(form, learned, tmp_path / "work", STEPS)
    assert share_first(form, held_out) > before


def test_it_learns_which_words_matter(tmp_path: Path) -> None:
    form = late(make_tiny_encoder(tmp_path / "encoder", seed=3), tmp_path)
    groups, others = made_up(0), made_up(1)
    before = share_first(form, others)
    trained(form, groups, tmp_path / "work", 60)
    assert share_first(form, others) > before


def test_one_that_was_killed_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarry_trainer.learning.training_loop.CHECKPOINT_STEPS", 5)
    encoder = make_tiny_encoder(tmp_path / "encoder", seed=3)

    class Killed(Exception):
        pass

    def kill(share: float, _details: Mapping[str, float]) -> None:
        if share >= 0.6:
            raise Killed

    whole = late(encoder, tmp_path / "1")
    trained(whole, made_up(0), tmp_path / "whole", 20)
    with pytest.raises(Killed):
        trained(late(encoder, tmp_path / "2"), made_up(0), tmp_path / "killed", 20, on_step=kill)
    resumed = late(encoder, tmp_path / "3")
    trained(resumed, made_up(0), tmp_path / "killed", 20)
    expected: dict[str, Tensor] = whole.module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.module.state_dict().items())


def test_it_begins_with_as_much_of_its_own_as_the_fused_score_leaves_open(tmp_path: Path) -> None:
    form = late(make_tiny_encoder(tmp_path / "encoder", seed=3), tmp_path)

    def factor(fused_tells: bool) -> float:
        fit_start(form, made_up(0, fused_tells), NEW_OFFSET)
        return form.late.head.log_scale.exp().item()

    assert factor(fused_tells=False) > 1
    assert factor(fused_tells=True) == pytest.approx(LEAST_SCALE)


def test_rare_tokens_count_more_than_frequent_ones(tmp_path: Path) -> None:
    form = late(make_tiny_encoder(tmp_path / "encoder", seed=3), tmp_path)
    form.weigh_tokens(["mo bado", "mo gira", "mo lute", "mo"])
    frequent, rare, never = (
        form.late.head.token_weights[form.states.tokenize_queries([word])[word][1]].item()
        for word in ("mo", "bado", "tari")
    )
    assert frequent < rare < never
