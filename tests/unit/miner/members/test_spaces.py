"""Spaces: LSA, the ensemble's PCA and its drift, and queries that are encoded once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.unit.miner.small import DIMENSION, WordVectors, draw_texts, make_corpus, space_of

from quarry.documents.catalog import PassagePolicy
from quarry.documents.vector_cache import VectorCache
from quarry.models.base import ModelInfo
from quarry_miner.members.ensemble import (
    average_documents,
    build_ensemble,
    fit_basis,
    has_drifted,
    measure_explained,
)
from quarry_miner.members.lsa import fit_lsa, normalize
from quarry_miner.members.matrix import DocumentMatrix
from quarry_miner.members.spaces import build_encoder_space

CORPUS = make_corpus(draw_texts(60, seed=1))


class CountingEncoder:
    """Word vectors as an encoder that knows how many texts it was given."""

    info = ModelInfo("counting", "f" * 32, 64, DIMENSION)

    def __init__(self) -> None:
        self.encoded = 0
        self._vectors = WordVectors()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += len(texts)
        return self._vectors.embed(texts)

    def find_token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [[(i, i + 1) for i in range(len(text))] for text in texts]


def test_nothing_is_encoded_twice(tmp_path: Path) -> None:
    encoder, cache = CountingEncoder(), VectorCache(tmp_path / "vectors.db")
    first = build_encoder_space("dense", CORPUS, encoder, PassagePolicy(), cache)
    first.queries.embed(["bana kisi", "bana kisi", "lotu"])
    encoded = encoder.encoded
    again = build_encoder_space("dense", CORPUS, encoder, PassagePolicy(), cache)
    assert (again.queries.embed(["lotu", "bana kisi"]) == first.queries.embed(["lotu", "bana kisi"])).all()
    assert encoder.encoded == encoded
    assert encoded == len(first.documents.vectors) + 2
    cache.close()


def test_one_vector_mode_has_one_vector_a_document(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.db")
    corpus = make_corpus(draw_texts(5, seed=2, length=60))
    several = build_encoder_space("dense", corpus, CountingEncoder(), PassagePolicy(), cache)
    one = build_encoder_space("dense", corpus, CountingEncoder(), PassagePolicy(first_only=True), cache)
    assert not several.documents.is_flat
    assert one.documents.is_flat
    cache.close()


def test_lsa_is_the_same_for_the_same_seed_and_finds_a_document_by_its_words() -> None:
    spaces = [fit_lsa(CORPUS, seed=3, dimensions=20) for _ in range(2)]
    assert (spaces[0].documents.vectors == spaces[1].documents.vectors).all()
    queries = spaces[0].queries.embed(CORPUS.read_texts(range(10)))
    nearest, _ = spaces[0].documents.find_nearest(queries, 1)
    assert nearest[:, 0].tolist() == list(range(10))


def test_a_query_without_a_known_word_is_like_no_document() -> None:
    space = fit_lsa(CORPUS, seed=0, dimensions=20)
    _, scores = space.documents.find_nearest(space.queries.embed(["xyzzy"]), 3)
    assert scores.tolist() == [[0, 0, 0]]


@settings(deadline=None)
@given(kept=st.floats(0.05, 1.0), seed=st.integers(0, 50))
def test_pca_keeps_the_variance_asked_for_with_the_fewest_components(kept: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(40, 6)) * [5, 3, 2, 1, 0.5, 0.1]).astype(np.float32)
    basis = fit_basis(rows, kept)
    assert basis.explained >= kept - 1e-9
    assert measure_explained(basis, rows) == pytest.approx(basis.explained, abs=1e-5)
    fewer = basis.components[:, :-1]
    centred = rows - basis.mean
    assert ((centred @ fewer) ** 2).sum() / (centred**2).sum() < kept + 1e-5
    assert basis.components.T @ basis.components == pytest.approx(np.eye(basis.components.shape[1]), abs=1e-5)


def test_pca_of_blocks_is_that_of_the_whole() -> None:
    rows = np.random.default_rng(0).normal(size=(9_000, 4)).astype(np.float32)
    values = np.linalg.eigvalsh(np.cov(rows.astype(float).T))[::-1]
    assert fit_basis(rows, 0.5).explained == pytest.approx(np.cumsum(values)[1] / values.sum(), abs=1e-3)


def test_documents_of_another_kind_are_drift_and_more_of_the_same_are_not() -> None:
    rng = np.random.default_rng(0)
    scale = np.array([3, 2, 0.1, 0.1])
    basis = fit_basis((rng.normal(size=(500, 4)) * scale).astype(np.float32))
    assert not has_drifted(basis, (rng.normal(size=(200, 4)) * scale).astype(np.float32))
    assert has_drifted(basis, (rng.normal(size=(200, 4)) * scale[::-1]).astype(np.float32))


def test_an_ensembles_earlier_basis_is_used_until_it_drifts() -> None:
    parts = [space_of(CORPUS, "dense"), space_of(CORPUS, "lsa")]
    space, basis = build_ensemble(parts)
    same, kept = build_ensemble(parts, known=basis)
    assert kept is basis
    assert any("earlier run" in note for note in same.notes)
    assert same.documents.vectors == pytest.approx(space.documents.vectors)
    other, _ = build_ensemble(parts[:1], known=basis)  # of another width
    assert other.documents.vectors.shape[1] <= DIMENSION


def test_a_query_with_a_documents_text_has_its_place_in_the_ensemble() -> None:
    space, _ = build_ensemble([space_of(CORPUS, "dense"), space_of(CORPUS, "lsa")])
    found = space.queries.embed(CORPUS.read_texts(range(5)))
    assert found == pytest.approx(space.documents.vectors[:5], abs=1e-5)
    assert (space.queries.embed(CORPUS.read_texts([3]))[0] == found[3]).all()


def test_a_documents_vector_is_the_mean_of_its_passages() -> None:
    matrix = DocumentMatrix(np.eye(3, dtype=np.float32), np.array([0, 2, 2, 3]))
    expected = normalize(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], np.float32))
    assert average_documents(matrix) == pytest.approx(expected)
