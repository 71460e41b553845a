"""A split cross-encoder learns from texts apart and from pairs, at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from quarry.testing import tiny_encoder
from quarry_trainer.apart import (
    APART,
    APART_NEGATIVES,
    TOGETHER,
    TOGETHER_GROUPS,
    apart_and_together,
    states_apart,
    vectors_apart,
)
from quarry_trainer.dataset import TextGroup
from quarry_trainer.forms import SplitForm, open_form, start_folder

WORDS = ["bado", "cobe", "fidu", "nami", "gira", "mo", "lute", "sapo"]


def group(number: int) -> TextGroup:
    query, *passages = (f"{WORDS[(number + n) % 8]} {WORDS[(number + 3 * n) % 8]}" for n in range(4))
    return TextGroup(query, tuple(passages), tuple(passages), (0.5,) * 3, (True, False, False), (1.0,) * 3)


GROUPS = [group(number) for number in range(6)]


@pytest.fixture
def form(tmp_path: Path) -> SplitForm:
    folder = start_folder(tiny_encoder(tmp_path / "encoder", seed=3), 1, tmp_path / "split")
    made = open_form(folder, 64, 0)
    assert isinstance(made, SplitForm)
    return made


def test_read_apart_it_gives_what_pairs_would_if_neither_text_saw_the_other(form: SplitForm) -> None:
    query, passage = "the bado", "cobe fidu nami of lute"
    with torch.no_grad():
        form.split.damping.fill_(1e4)
        vectors = vectors_apart(form.split, *states_apart(form, [query, passage]))
        score = form.module(**form.inputs([(query, passage)]))
    expected = form.split.log_scale.exp().item() * float(vectors[0] @ vectors[1])
    assert float(score) == pytest.approx(expected, abs=2e-3)  # states are rounded to float16


def test_a_vector_does_not_depend_on_the_texts_beside_it(form: SplitForm) -> None:
    with torch.no_grad():
        alone, beside = (
            vectors_apart(form.split, *states_apart(form, texts))
            for texts in (["mo"], ["mo", "cobe fidu nami of lute to bine sapo"])
        )
    np.testing.assert_allclose(alone[0], beside[0], atol=1e-5)


def test_a_batch_reads_all_texts_apart_and_all_pairs_of_some_groups(form: SplitForm) -> None:
    batch = apart_and_together(form, "lce", 1e-3, 0.0, GROUPS).collate(GROUPS)
    passages = {passage for each in GROUPS for passage in each.passages}
    assert len(batch[f"{APART}passage_0"]) == len(passages)
    assert batch[f"{APART}mined"].sum() == 2 * len(GROUPS)
    assert len(batch[f"{TOGETHER}relevant"]) == TOGETHER_GROUPS < len(GROUPS)


def test_of_a_large_group_some_mined_negatives_are_read_apart(form: SplitForm) -> None:
    large = TextGroup(
        "the bado", tuple(WORDS[:7]), tuple(WORDS[:7]), (0.5,) * 7, (True, *[False] * 6), (1.0,) * 7
    )
    batch = apart_and_together(form, "lce", 1e-3, 0.0, [large]).collate([large])
    assert batch[f"{APART}mined"].sum() == APART_NEGATIVES < 6
    assert batch[f"{TOGETHER}present"].sum() == 7


def test_mined_negatives_count_in_the_pairs(form: SplitForm) -> None:
    form.split.eval()
    trainable = apart_and_together(form, "lce", 1e-3, 0.0, GROUPS)
    own = [replace(each, pairs_only=True) for each in GROUPS]  # not read apart
    others = [replace(each, passages=(each.passages[0], "mo mo mo", "lute")) for each in own]
    first, second = (trainable.model(trainable.collate(some))["loss"] for some in (own, others))
    assert first.item() != pytest.approx(second.item(), abs=1e-4)
    first.backward()
    assert form.split.damping.grad is not None
    assert form.split.damping.grad.abs().max() > 0


def test_a_weight_stands_once_in_a_checkpoint(form: SplitForm) -> None:
    weights = apart_and_together(form, "lce", 1e-3, 0.0, GROUPS).model.state_dict()
    assert len({tensor.data_ptr() for tensor in weights.values()}) == len(weights)


def test_steps_bring_queries_near_their_positives(form: SplitForm) -> None:
    form.split.eval()  # without dropout losses can be compared
    trainable = apart_and_together(form, "lce", 1e-2, 0.0, GROUPS)
    optimizer = torch.optim.AdamW(trainable.parameters)
    losses = []
    for _ in range(10):
        loss = trainable.model(trainable.collate(GROUPS))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
