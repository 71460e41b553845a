"""An encoder learns from pairs, and what it learns is served."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quarry.models.encoder import load_encoder
from quarry.testing import make_tiny_encoder
from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.evaluation.encoder_scoring import load_served_encoder
from quarry_trainer.learning.contrastive import (
    EncoderInTraining,
    collect_positives,
    make_contrastive,
    make_teacher,
    remember,
)


def pair(query: str, positive: str, negative: str) -> TextGroup:
    texts = (positive, negative)
    return TextGroup(query, texts, texts, (0.5, 0.5), (True, False), (1.0, 1.0))


def far(texts: Sequence[str]) -> NDArray[np.float32]:
    """A teacher to which all texts are unlike."""
    return np.eye(len(texts), dtype=np.float32)


def near(texts: Sequence[str]) -> NDArray[np.float32]:
    """A teacher to which all texts are alike."""
    return np.ones((len(texts), 1), np.float32)


PAIRS = [
    pair("the bado", "cobe fidu nami", "lute of sapo"),
    pair("gira mo", "to bine sapo", "cobe of lute"),
    pair("nami in", "mo mo mo", "the the fidu"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_encoder(tmp_path / "encoder", seed=5)


def test_steps_bring_queries_near_their_positives(folder: Path) -> None:
    trainable = make_contrastive(EncoderInTraining(folder, 64, 0), 1e-2, collect_positives(PAIRS), far)
    optimizer = torch.optim.AdamW(trainable.parameters)
    batch = trainable.collate(PAIRS)
    losses = []
    for _ in range(8):
        loss = trainable.model(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_what_was_trained_is_served(folder: Path, tmp_path: Path) -> None:
    encoder = EncoderInTraining(folder, 64, 0)
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            parameter.add_(0.05)
    saved = tmp_path / "saved"

    shutil.copytree(folder, saved)
    encoder.save(saved)
    texts = ["the bado", "cobe fidu nami"]
    with torch.no_grad():
        trained = encoder.module(*encoder.make_inputs(texts)).numpy()
    np.testing.assert_allclose(load_encoder(str(saved), tmp_path, "cpu").encode(texts), trained, atol=1e-4)
    ((score,),) = [
        [found.score for found in load_served_encoder(saved, tmp_path).score([(texts[0], texts[1])])]
    ]
    assert score == pytest.approx(float(trained[0] @ trained[1]), abs=1e-4)


def test_other_positives_of_the_same_query_are_no_negatives(folder: Path) -> None:
    same = [pair("the bado", "cobe fidu nami", "lute"), pair("the bado", "to bine sapo", "lute")]
    trainable = make_contrastive(EncoderInTraining(folder, 64, 0), 1e-2, collect_positives(same), far)
    batch = trainable.collate(same)
    passages = ["cobe fidu nami", "lute", "to bine sapo"]
    assert batch["own"].tolist() == [0, 2]
    assert batch["kept"].tolist() == [[True, True, False], [False, True, True]]
    assert len(passages) == batch["passage_0"].shape[0]


@pytest.mark.parametrize("form", ["the  bado", "The bado?"])
def test_what_answers_a_query_in_another_form_is_no_negative_of_it(folder: Path, form: str) -> None:
    same = [pair("the bado", "cobe fidu nami", "lute"), pair(form, "to bine sapo", "lute")]
    batch = make_contrastive(EncoderInTraining(folder, 64, 0), 1e-2, collect_positives(same), far).collate(
        same
    )
    assert batch["kept"].tolist() == [[True, True, False], [False, True, True]]


def test_what_answers_a_query_elsewhere_in_the_examples_is_no_negative_of_it(folder: Path) -> None:
    groups = [*PAIRS, pair("the bado", "mo mo mo", "lute")]
    batch = make_contrastive(EncoderInTraining(folder, 64, 0), 1e-2, collect_positives(groups), far).collate(
        PAIRS
    )
    left_out = (~batch["kept"][0]).nonzero().flatten().tolist()
    assert left_out == [4], "that of the third, which another group has as its own"


def test_another_passage_of_an_answer_is_no_negative(folder: Path) -> None:
    first = replace(pair("the bado", "cobe fidu nami", "lute"), documents=("answer", "l"))
    other = replace(pair("gira mo", "to bine sapo", "fidu mo"), documents=("o", "answer"))
    groups = [first, other]
    batch = make_contrastive(EncoderInTraining(folder, 64, 0), 1e-2, collect_positives(groups), far).collate(
        groups
    )
    assert batch["kept"].tolist() == [[True, True, True, False], [True, True, True, True]]


def test_a_copy_of_an_answer_under_another_id_is_no_negative(folder: Path) -> None:
    first = replace(pair("the bado", "cobe fidu nami", "lute"), documents=("answer", "l"))
    other = replace(pair("gira mo", "to bine sapo", "cobe fidu nami"), documents=("o", "copy"))
    positives = collect_positives([first, other])
    batch = make_contrastive(EncoderInTraining(folder, 64, 0), 1e-2, positives, far).collate([first, other])
    assert batch["kept"].tolist() == [[True, True, True], [True, True, True]]


def test_a_shared_text_is_an_answer_for_whichever_document_has_been_judged(folder: Path) -> None:
    """The copy answers by another passage, and is read in this batch by the one that both documents have."""
    groups = [
        replace(pair("the bado", "cobe fidu nami", "lute"), documents=("copy", "l")),
        replace(pair("gira mo", "to bine sapo", "mo mo mo"), documents=("o", "else")),
        replace(pair("nami in", "fidu", "mo mo mo"), documents=("f", "copy")),
    ]
    batch = make_contrastive(EncoderInTraining(folder, 64, 0), 1e-2, collect_positives(groups), far).collate(
        groups
    )
    assert batch["kept"][0].tolist() == [True, True, True, False, True]


def test_a_mined_negative_stands_against_the_queries_of_all_groups(folder: Path) -> None:
    trainable = make_contrastive(EncoderInTraining(folder, 64, 0), 1e-2, collect_positives(PAIRS), far)
    changed = [replace(PAIRS[0], passages=(PAIRS[0].passages[0], "gira gira")), *PAIRS[1:]]
    with torch.no_grad():
        lone = [replace(each, weight=float(place == 2)) for place, each in enumerate(PAIRS)]
        other = [replace(each, weight=float(place == 2)) for place, each in enumerate(changed)]
        losses = [trainable.model(trainable.collate(some))["loss"].item() for some in (lone, other)]
    assert losses[0] != pytest.approx(losses[1], abs=1e-5)


def test_what_the_teacher_finds_near_is_no_negative_unless_it_was_mined(folder: Path) -> None:
    """The model in training does not mask by itself what it gets wrong: its own cosines play no part."""
    groups = [PAIRS[0], PAIRS[1]]
    mined = [[True, True, False, False], [False, False, True, True]]
    for teacher, others in ((far, True), (near, False)):
        encoder = EncoderInTraining(folder, 64, 0)
        batch = make_contrastive(encoder, 1e-2, collect_positives(groups), teacher).collate(groups)
        assert batch["kept"].tolist() == [[own or others for own in row] for row in mined]


def test_a_teacher_reads_a_text_once() -> None:
    asked: list[str] = []

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        asked.extend(texts)
        return near(texts)

    encode_once = remember(encode)
    assert len(encode_once(["a", "b", "a"])) == 3
    encode_once(["b", "c"])
    assert asked == ["a", "b", "c"]


def test_a_teacher_forgets_what_was_not_asked_for_longest_beyond_so_many_bytes() -> None:
    asked: list[str] = []

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        asked.extend(texts)
        return near(texts)

    encode_some = remember(encode, limit_bytes=2 * 4)
    assert encode_some(["a", "b", "c"]).tolist() == [[1.0]] * 3, "more than is kept, and none is lost"
    encode_some(["b"])
    encode_some(["a", "b"])
    encode_some(["c"])
    assert asked == ["a", "b", "c", "a", "c"]


def test_a_teacher_is_on_the_device_of_the_encoder_in_training(folder: Path) -> None:
    devices: list[str] = []

    class Untrained(EncoderInTraining):
        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            devices.append(self.device.type)
            return near(texts)

    trained = EncoderInTraining(folder, 64, 0)
    teacher = make_teacher(Untrained(folder, 64, 0), trained)
    teacher(["a"])
    trained.module.to("meta")
    teacher(["b"])
    assert devices == ["cpu", "meta"]
