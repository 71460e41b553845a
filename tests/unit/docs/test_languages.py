"""The page about languages says of each what the schema takes and what the analyser does."""

import re
from pathlib import Path

import pytest
import tantivy

from quarry.errors import UnknownValueError
from quarry.retrieval.lexical.analysis import build_analyser
from quarry.retrieval.lexical.folding import list_folds
from quarry.schema import LANGUAGES, UNSTEMMED, Field, FieldType

PAGE = (Path(__file__).resolve().parents[3] / "docs/reference/languages.md").read_text()
ROWS = dict(re.findall(r"(?m)^\| `(\w+)` \| (.*?) \|$", PAGE))


def test_the_table_has_each_language_with_a_stemmer_and_none() -> None:
    assert ROWS.keys() == {*LANGUAGES, "none"}
    for code, row in ROWS.items():
        name, stemmer, _, _ = row.split(" | ")
        assert name.lower() == LANGUAGES.get(code, "any")
        assert stemmer == ("yes" if code in LANGUAGES else "no")


def test_the_list_has_each_language_without_a_stemmer() -> None:
    (sentence,) = re.findall(r"These codes are taken, too.*?\. ", PAGE)
    assert set(re.findall(r"`([a-z]{2})`", sentence)) == UNSTEMMED


def test_the_engine_stems_no_language_of_the_list() -> None:
    (sentence,) = re.findall(r"These codes are taken, too.*?\. ", PAGE)
    names = re.findall(r"`[a-z]{2}` \((\w+)\)", sentence)
    assert len(names) == len(UNSTEMMED)
    for name in names:
        with pytest.raises(ValueError, match="Unsupported language"):
            tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(
                tantivy.Filter.stemmer(name.lower())
            )


@pytest.mark.parametrize("code", [*ROWS])
def test_a_language_leaves_stop_words_out_of_queries_if_the_table_says_so(code: str) -> None:
    words = {
        "da": "og", "nl": "het", "en": "the", "fi": "ja", "fr": "les", "de": "und", "hu": "egy", "it": "che",
        "no": "og", "pt": "que", "ru": "что", "es": "que", "sv": "och", "ar": "من", "el": "και", "ro": "și",
        "ta": "ஒரு", "tr": "bir", "none": "the",
    }  # fmt: skip
    left = build_analyser(code, stop_words=False).analyze(words[code])
    assert bool(left) == (ROWS[code].split(" | ")[2] == "no")


@pytest.mark.parametrize("code", [*ROWS])
def test_letters_are_also_written_as_two_where_the_table_says_so(code: str) -> None:
    pairs = dict(re.findall(r"`(.)` `(\w\w)`", ROWS[code]))
    folds = list_folds(code)
    assert {letter: letter.translate(folds[-1]) for letter in pairs} == pairs
    assert len(folds) == (2 if pairs else 1)


def test_each_code_of_the_page_is_taken_and_others_are_refused() -> None:
    for code in (*LANGUAGES, *UNSTEMMED, "none"):
        assert Field("text", FieldType.TEXT, language=code).language == code
    for wrong in ("zh-TW", "pt-BR", "JA", "xx", ""):
        with pytest.raises(UnknownValueError, match="is not none, af, ar"):
            Field("text", FieldType.TEXT, language=wrong)
