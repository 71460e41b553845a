"""Texts are cut into words by one cutter a language, whoever asks for it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from quarry.retrieval.lexical.analysis import build_cutter, build_surface_cutter, cut_phrase, cut_surfaces
from quarry.retrieval.lexical.cutting import TextCutter


@pytest.mark.parametrize("build", [build_cutter, build_surface_cutter])
def test_a_cutter_is_built_once_and_serves_several_threads(build: Callable[[str], TextCutter]) -> None:
    cutter = build("pt")
    texts = [f"manutenção dos carros {n}, 備份 " * 20 for n in range(40)]
    alone = [cutter.cut(text) for text in texts]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda text: build("pt").cut(text), texts)) == alone
    assert build("pt") is cutter
    assert build("es") is not cutter


def test_words_as_they_are_written_come_of_a_text_of_words_alone() -> None:
    cutter = build_surface_cutter("pt")
    assert cut_surfaces(cutter, "Carros, manutenção") == ["carros", "manutencao"]
    assert cut_surfaces(cutter, "carros 備份") == cut_surfaces(cutter, "") == []


def test_nothing_is_cut_of_a_phrase_with_a_word_that_is_too_long() -> None:
    for cut, cutter in ((cut_phrase, build_cutter("en")), (cut_surfaces, build_surface_cutter("en"))):
        assert len(cut(cutter, "red " + "x" * 255)) == 2
        assert cut(cutter, "red " + "x" * 256) == []
