"""The contract of ``quarry.retrieval.base.LexicalIndex`` about languages, scripts and spellings."""

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from quarry.retrieval.base import LexicalIndex
from quarry.schema import LANGUAGES, UNSTEMMED, Field, FieldType, Schema
from quarry.testing.lexical_index import fill_index, list_docnos
from quarry.types import Change, Docno

ALL_LANGUAGES = ("none", *sorted(LANGUAGES), *sorted(UNSTEMMED))

SPELLINGS = [  # language, a text, what people type for it
    ("pt", "manutenção", "manutencao"),
    ("es", "niño", "nino"),
    ("fr", "garçon", "garcon"),
    ("fr", "forêt", "foret"),
    ("cs", "škoda", "skoda"),
    ("none", "škoda", "skoda"),
    ("de", "Müller", "muller"),
    ("de", "Müller", "Mueller"),
    ("de", "Straße", "strasse"),
    ("tr", "ılık", "ilik"),
    ("pl", "Łódź", "lodz"),
    ("da", "smørrebrød", "smorrebrod"),
    ("da", "København", "koebenhavn"),
    ("no", "Ålesund", "aalesund"),
    ("none", "Ålesund", "alesund"),
    ("fr", "cœur", "coeur"),
    ("vi", "Nguyễn", "nguyen"),
    ("ru", "ёлка", "елка"),
    ("none", "ёлка", "елка"),
    ("none", "Müller", "Mueller"),
    ("none", "άνοιξη", "ανοιξη"),
    ("none", "כִּתּוּב", "כתוב"),
    ("none", "كِتَابٌ", "كتاب"),
    ("en", "naïve", "naive"),
    ("en", "ёлка", "елка"),
]
FOLDED = {"en", "de", "ru"}
"""Languages whose analyser may fold by itself, so that a word has one form."""
SAME = [  # language, a text, another way to write the same
    ("fr", "forêt", "fore\u0302t"),
    ("none", "ﬁnal", "final"),
    ("en", "ＡＢＣ", "abc"),
    ("ja", "ｶﾞｷﾞ", "ガギ"),
    ("ko", "데이터", unicodedata.normalize("NFD", "데이터")),
    ("en", "H₂O", "h2o"),
    ("en", "donau\u00addampf", "donaudampf"),
    ("en", "Windows™", "windows"),
    ("en", "❤\ufe0f", "❤"),
    ("tr", "İSTANBUL ISPARTA", "istanbul ısparta"),
    ("none", "İstanbul", "istanbul"),
]
UNSPACED = [  # a text, parts of it that are words
    ("請先備份資料庫。", ["備份", "資料庫", "先"]),
    ("中华人民共和国法令", ["法令", "共和国", "令"]),
    ("データベースのバックアップ", ["データベース", "バックアップ", "バック"]),
    ("데이터베이스를 복구한다 책", ["데이터베이스", "데이터", "복구", "책"]),
    ("ประเทศไทยมีน้ำ", ["ประเทศ", "ไทย", "น้ำ"]),
    ("ພາສາລາວ", ["ພາສາ", "ລາວ"]),
    ("ភាសាខ្មែរ", ["ភាសា", "ខ្មែរ"]),
    ("မြန်မာဘာသာ", ["မြန်မာ", "ဘာသာ"]),
    ("iPhone備份 with 2024年版", ["iphone", "備份", "2024", "年版", "版"]),
    ("I like 🍕🍺, 🇯🇵 and 👩🏽‍🚀!", ["🍕", "🍺", "🇯🇵", "👩", "🚀", "like"]),
    ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
    ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
]

UNSPACED_LETTERS = "備份資料庫令ひらカター데이터ไทยລາວ"
EMOJI = "🍕🍺🚀❤"
PIECES = st.text(max_size=6) | st.sampled_from(
    [
        *UNSPACED_LETTERS,
        *EMOJI,
        " ",
        " ",
        "\u0301",
        "İ",
        "ß",
        "é",
        "manutenção",
        "iPhone",
        "न्",
        "น้ำ",
        "\u200d",
        "\u00ad",
    ]
)
"""What texts are made of: anything, and often what is cut in a way of its own."""


def make_schema(language: str) -> Schema:
    title = Field("title", FieldType.TEXT, boost=0.5, language=language, is_title=True)
    return Schema((title, Field("text", FieldType.TEXT, language=language)))


def find_all(index: LexicalIndex, query: str) -> list[int]:
    """Finds all that match ``query``, best first, and checks that scores and the ceiling agree."""
    result = index.search(query, 999, None)
    assert result.total == len(result.candidates)
    assert all(0 < candidate.score <= result.ceiling for candidate in result.candidates)
    scores = {candidate.docno: candidate.score for candidate in result.candidates}
    assert index.score_documents(query, [Docno(n) for n in range(99)]) == pytest.approx(scores, rel=1e-5)
    return list_docnos(result)


class LexicalLanguagesContract:
    """The promises of every lexical index about what of a text is found.

    Subclass it as ``Test...``, and write ``open_index``.
    """

    def open_index(self, folder: Path, schema: Schema) -> LexicalIndex:
        """Opens the empty index of ``folder``, for documents of ``schema``."""
        raise NotImplementedError

    @contextmanager
    def hold(self, folder: Path, language: str, texts: Iterable[str]) -> Iterator[LexicalIndex]:
        """Holds ``texts``, one a document, in an open index."""
        index = fill_index(self.open_index(folder, make_schema(language)), [{"text": t} for t in texts])
        try:
            yield index
        finally:
            index.close()

    @pytest.mark.parametrize(("language", "text", "typed"), SPELLINGS)
    def test_a_text_is_found_without_its_accents_after_exact_forms(
        self, tmp_path: Path, language: str, text: str, typed: str
    ) -> None:
        texts = (f"the {word} is there" for word in ("other", text, typed))
        with self.hold(tmp_path, language, texts) as index:
            found = find_all(index, text), find_all(index, typed)
            assert list(map(sorted, found)) == [[1, 2], [1, 2]]
            assert found == ([1, 2], [2, 1]) or language in FOLDED

    @pytest.mark.parametrize(("language", "text", "other"), SAME)
    def test_one_text_in_several_encodings_is_the_same(
        self, tmp_path: Path, language: str, text: str, other: str
    ) -> None:
        with self.hold(tmp_path, language, ("unlike", text, other)) as index:
            assert find_all(index, text) == find_all(index, other) == [1, 2]

    @pytest.mark.parametrize("language", ["none", "en", "ja", "pt"])
    def test_words_of_scripts_without_spaces_and_symbols_are_found(
        self, tmp_path: Path, language: str
    ) -> None:
        with self.hold(tmp_path, language, ("unlike", *(text for text, _ in UNSPACED))) as index:
            for docno, (text, words) in enumerate(UNSPACED, 1):
                for word in (text, *words):
                    found = find_all(index, word)
                    assert docno in found, word
                    assert 0 not in found, word
                assert find_all(index, text)[0] == docno

    def test_a_spelling_that_is_rare_does_not_outweigh_the_word(self, tmp_path: Path) -> None:
        texts = [*["el niño come"] * 30, "el nino come", *["otra cosa"] * 30]
        with self.hold(tmp_path, "es", texts) as index:
            scores = index.score_documents("nino", [Docno(0), Docno(30)])
        assert 0.5 < scores[Docno(0)] / scores[Docno(30)] < 1

    def test_a_title_is_found_without_its_accents_and_counts_more(self, tmp_path: Path) -> None:
        with self.hold(tmp_path, "es", ("a niño",)) as index:
            index.apply([Change(Docno(1), 2, {"title": "niño", "text": "a"})])
            index.commit(2)
            assert find_all(index, "nino") == [1, 0]

    def test_a_part_of_a_katakana_word_does_not_match(self, tmp_path: Path) -> None:
        texts = ("リリースの準備", "データベースの準備", "ケース")
        with self.hold(tmp_path, "ja", texts) as index:
            assert find_all(index, "データベース") == [1]
            assert find_all(index, "データベースを準備する") == [1, 0]

    def test_particles_alone_do_not_match_beside_words(self, tmp_path: Path) -> None:
        with self.hold(tmp_path, "ja", ("これは本です", "京都", "食べた")) as index:
            assert find_all(index, "京都です") == [1]
            assert find_all(index, "です") == [0]
            assert find_all(index, "食べる") == [2]

    def test_every_language_finds_its_own_words(self, tmp_path: Path) -> None:
        schema = Schema(tuple(Field(f"text_{code}", FieldType.TEXT, language=code) for code in ALL_LANGUAGES))
        words = "Quarry Über 備份 🍕"
        index = self.open_index(tmp_path, schema)
        fill_index(index, [{f"text_{code}": words} for code in ALL_LANGUAGES])
        for word in words.split():
            found = list_docnos(index.search(word, len(ALL_LANGUAGES), None))
            assert sorted(found) == list(range(len(ALL_LANGUAGES))), word
        index.close()

    @given(language=st.sampled_from(ALL_LANGUAGES), pieces=st.lists(PIECES, max_size=8))
    @settings(
        max_examples=40,
        deadline=None,
        phases=set(Phase) - {Phase.explain},
        suppress_health_check=list(HealthCheck),
    )
    def test_any_text_is_found_by_itself_and_by_each_of_its_words(
        self, language: str, pieces: list[str]
    ) -> None:
        text = "".join(pieces)
        assume(all(len(unicodedata.normalize("NFKC", word)) < 60 for word in text.split()))
        with TemporaryDirectory() as folder:
            index = self.open_index(Path(folder), make_schema(language))
            fill_index(index, [{"text": "?"}, {"title": text, "text": text}])
            for word in {text, *text.split()}:
                for query in (word, unicodedata.normalize("NFD", word), f"{word} {word}"):
                    has_words = any(c.isalnum() or c in EMOJI for c in query)
                    assert find_all(index, query) == [1] or not has_words, query
            for pair in (a + b for a, b in pairwise(text) if a in UNSPACED_LETTERS and b in UNSPACED_LETTERS):
                assert find_all(index, pair) == [1], pair
            index.close()
