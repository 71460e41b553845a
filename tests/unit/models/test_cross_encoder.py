from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from quarry.errors import ModelError
from quarry.models.cross_encoder import TransformerCrossEncoder, load_cross_encoder
from quarry.models.tokenization import cut_pair
from quarry.testing import make_tiny_cross_encoder

TEXTS = st.text(alphabet="abc deo.,\x00é\ud800中", max_size=60)
PAIRS = st.tuples(TEXTS, TEXTS)


@given(pairs=st.lists(PAIRS, min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_a_score_does_not_depend_on_its_batch(
    cross_encoder: TransformerCrossEncoder, pairs: list[tuple[str, str]]
) -> None:
    alone = [cross_encoder.score([pair])[0] for pair in pairs]
    for one, together in zip(alone, cross_encoder.score(pairs), strict=True):
        assert together.score == pytest.approx(one.score, abs=1e-4)
        assert together.truncated == one.truncated


def test_scores_are_those_of_torch(
    cross_encoder: TransformerCrossEncoder, cross_encoder_folder: Path
) -> None:
    pairs = [("bado", "the ceda"), ("a b c", ""), ("tari " * 10, "nolo " * 90), ("sobi " * 90, "de " * 90)]
    tokenizer = AutoTokenizer.from_pretrained(cross_encoder_folder)
    inputs = tokenizer(
        *([list(side) for side in zip(*pairs, strict=True)]),
        padding=True, truncation="longest_first", max_length=64, return_tensors="pt",
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoder_folder)
    with torch.inference_mode():
        expected = model(**inputs).logits[:, 0].numpy()
    got = cross_encoder.score(pairs)
    assert np.abs(expected - [pair.score for pair in got]).max() <= 1e-4
    assert [pair.truncated for pair in got] == [False, False, True, True]


def test_no_pairs_have_no_scores(cross_encoder: TransformerCrossEncoder) -> None:
    assert cross_encoder.score([]) == []


def test_a_classifier_of_several_labels_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_cross_encoder(tmp_path / "three", seed=1, labels=3)
    with pytest.raises(ModelError, match="3 labels"):
        load_cross_encoder(str(folder), tmp_path / "data")


@given(a=st.integers(0, 600), b=st.integers(0, 600), room=st.integers(2, 300))
def test_a_cut_pair_fills_the_room_and_spares_the_shorter_text(a: int, b: int, room: int) -> None:
    if a + b <= room:
        return
    kept_a, kept_b = cut_pair(a, b, room)
    assert kept_a + kept_b == room
    assert 0 <= kept_a <= a
    assert 0 <= kept_b <= b
    assert min(kept_a, kept_b) == min(a, b, room // 2)
