from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from quarry.models.encoder import TransformerEncoder, load_encoder
from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model

TEXTS = st.text(alphabet="abc deo.,\n\x00é\ud800中😀", max_size=80)
TOLERANCE = 1e-4


@given(texts=st.lists(TEXTS, min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_a_vector_does_not_depend_on_its_batch(encoder: TransformerEncoder, texts: list[str]) -> None:
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.abs(encoder.encode(texts) - alone).max() <= TOLERANCE


@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_every_vector_has_unit_length(encoder: TransformerEncoder, texts: list[str]) -> None:
    vectors = encoder.encode(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), encoder.info.dimension)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("text", ["", "\x00" * 50, "\ud800", "wo " * 400_000, "w" * 1_000_000, "\n" * 100])
def test_any_text_has_a_vector(encoder: TransformerEncoder, text: str) -> None:
    assert np.isfinite(encoder.encode([text])).all()


def test_no_texts_have_no_vectors(encoder: TransformerEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.info.dimension)


def test_different_texts_have_different_vectors(encoder: TransformerEncoder) -> None:
    first, second = encoder.encode(["the bado", "cedi of nolo tari"])
    assert first @ second < 0.99


def test_a_text_that_is_cut_equals_its_beginning_and_is_marked(encoder: TransformerEncoder) -> None:
    room = encoder.info.max_tokens - 2
    cut, whole = encoder.prepare(["a " * 10_000, "a " * room])
    assert (cut.truncated, whole.truncated) == (True, False)
    assert cut.ids.tolist() == whole.ids.tolist()


def test_spans_are_the_characters_of_tokens_without_special_ones(encoder: TransformerEncoder) -> None:
    text = "the Éa\x00,\ud800 ba"
    (spans,) = encoder.find_token_spans([text])
    assert [text[start:end] for start, end in spans] == ["the", "É", "a", ",", "ba"]


def test_spans_are_not_cut_at_the_encoders_limit(encoder: TransformerEncoder) -> None:
    assert len(encoder.find_token_spans(["a " * 1_000])[0]) == 1_000


def _mean_pooled(folder: Path, texts: list[str], max_tokens: int) -> np.ndarray:
    """As sentence-transformers does it, step by step, in torch."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    states = AutoModel.from_pretrained(folder)(**inputs).last_hidden_state.detach().numpy()
    mask = inputs["attention_mask"].numpy()[..., None]
    means = (states * mask).sum(axis=1) / mask.sum(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def default_encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransformerEncoder]:
    yield load_encoder(DEFAULT_ENCODER, tmp_path_factory.mktemp("data"), device="cpu")


def test_the_default_encoder_gives_the_mean_pooled_vectors_of_torch(
    default_encoder: TransformerEncoder,
) -> None:
    texts = ["How do I reset a password?", "", "Ünïcode, 中文 and emoji 😀", "long text " * 300]
    expected = _mean_pooled(resolve_model(DEFAULT_ENCODER).path, texts, max_tokens=256)
    assert default_encoder.info.max_tokens == 256
    assert np.abs(default_encoder.encode(texts) - expected).max() <= TOLERANCE
