"""The clauses of a query, whichever index answers it: words with their other spellings, and runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, islice
from typing import NamedTuple

import regex

from quarry.retrieval.lexical.cutting import FORM, Run, Word
from quarry.retrieval.lexical.text_fields import TextField

MAX_QUERY_WORDS = 512
"""Different words of a query that count, for each analyser; the first ones are taken."""

FORM_SHARE = 0.7
"""What a match of another spelling counts beside that of the query's own.

From 0.5 to 0.9 the order of French, Portuguese, Spanish and German manual pages hardly changes. It leaves
room for what the other forms make a document longer by."""


_SCRIPTS = {
    "han": regex.compile(r"\p{Script=Han}+"),
    "hangul": regex.compile(r"[\p{Script=Hangul}\p{M}]+"),
    "katakana": regex.compile(r"[\p{Script=Katakana}ー\p{M}]+"),
    "hiragana": regex.compile(r"[\p{Script=Hiragana}ー\p{M}]+"),
    "other": regex.compile(r"[^\p{Script=Han}\p{Script=Hangul}\p{Script=Katakana}\p{Script=Hiragana}ー]+"),
}
"""Kinds of pairs; a pair of two scripts is of none."""


class WordClause(NamedTuple):
    """A word that is looked for in a field: a document counts by the best of its spellings.

    Attributes:
        field: where.
        weight: what its BM25 is multiplied by: the field's.
        text: as the field's analyser leaves it.
        others: terms of its other spellings, each of which counts ``FORM_SHARE``.
    """

    field: str
    weight: float
    text: str
    others: tuple[str, ...] = ()


class Group(NamedTuple):
    """Pairs of characters of one script in a row: a document matches that has enough of them."""

    pairs: tuple[str, ...]
    needed: int


class RunClause(NamedTuple):
    """Characters without spaces that are looked for in a field: a document counts by the pairs that it has.

    Attributes:
        field: where.
        weight: the field's.
        pairs: each character with the next one, or a character that stands alone; each once.
        groups: what matches a document; any of them does, and so does a word of the query.
    """

    field: str
    weight: float
    pairs: tuple[str, ...]
    groups: tuple[Group, ...]

    @property
    def matches_by_any(self) -> bool:
        """Whether any pair matches a document."""
        return {pair for group in self.groups if group.needed == 1 for pair in group.pairs} >= set(self.pairs)


Clause = WordClause | RunClause


def list_clauses(fields: Iterable[TextField], parts: Mapping[str, Sequence[Word | Run]]) -> list[Clause]:
    """Lists what is looked for in each field, each word and each pair once; none if nothing can match.

    Counting a word as often as the query has it ranked worse on five collections of six.

    Args:
        parts: the query, by language.
    """
    words = {language: _list_words(cut, language) for language, cut in parts.items()}
    runs = {language: _list_runs(cut) for language, cut in parts.items()}
    clauses: list[Clause] = []
    for field in fields:
        name, weight, language = field.name, field.weight, field.language
        clauses += [WordClause(name, weight, text, others) for text, others in words[language].items()]
        clauses += [RunClause(name, weight, pairs, groups) for pairs, groups in runs[language]]
    return clauses


def _list_words(parts: Sequence[Word | Run], language: str) -> dict[str, tuple[str, ...]]:
    """Lists each word with the terms of its other spellings.

    Documents have a marked form for each word with accents. So a query without them finds the marked form,
    and one with them finds what is plain, too.
    """
    if language == "en":  # folded as a whole, so that a word has one spelling
        different = dict.fromkeys([part.text for part in parts if isinstance(part, Word)], ())
        return dict(islice(different.items(), MAX_QUERY_WORDS))
    words: dict[str, dict[str, None]] = {}
    for part in parts:
        if isinstance(part, Word) and (part.text in words or len(words) < MAX_QUERY_WORDS):
            words.setdefault(part.text, {}).update(dict.fromkeys(part.forms))
    return {text: _list_other_terms(text, list(forms)) for text, forms in words.items()}


def _list_other_terms(text: str, forms: Sequence[str]) -> tuple[str, ...]:
    return *forms, *(FORM + form for form in (text, *forms))


def list_steps(parts: Sequence[Word | Run], language: str) -> list[tuple[int, tuple[str, ...]]]:
    """Lists what has to stand in a row for ``parts`` to be a phrase: places from 0, and the terms that may
    stand at each."""
    steps: list[tuple[int, tuple[str, ...]]] = []
    for part in parts[:MAX_QUERY_WORDS]:
        place = part.position - parts[0].position
        if isinstance(part, Run):
            steps += [(place + n, (term,)) for n, term in enumerate(part.pairs or part.characters)]
        else:
            others = () if language == "en" else _list_other_terms(part.text, part.forms)
            steps.append((place, (part.text, *others)))
    return steps


def _list_runs(parts: Sequence[Word | Run]) -> list[tuple[tuple[str, ...], tuple[Group, ...]]]:
    """Lists the pairs of each run, and what of them matches a document.

    Hiragana does only if the query has nothing else, for it is the particles and endings of Japanese.
    """
    if not any(isinstance(part, Run) for part in parts):
        return []
    runs: dict[tuple[str, ...], list[tuple[str, Group]]] = {}
    left = MAX_QUERY_WORDS
    for run in parts:
        if isinstance(run, Run) and left:
            pairs = tuple(dict.fromkeys(run.pairs or run.characters))[:left]
            if pairs not in runs:
                runs[pairs] = _group_pairs(pairs)
                left -= len(pairs)
    kinds = {kind for groups in runs.values() for kind, _ in groups}
    leaves_out = {"hiragana"} if kinds - {"hiragana"} or any(isinstance(p, Word) for p in parts) else set()
    listed, seen = [], set[str]()
    for pairs, groups in runs.items():
        kept = tuple(group for kind, group in groups if kind not in leaves_out)
        listed.append((tuple(pair for pair in pairs if pair not in seen), kept))
        seen.update(pairs)
    return listed


def _group_pairs(pairs: Sequence[str]) -> list[tuple[str, Group]]:
    """Groups pairs by script, as far as they are in a row.

    One pair of Chinese characters is mostly a word, of a longer name two will do. A Korean word carries
    endings. In other scripts a pair is as little as two letters, so most pairs of a word have to be there;
    what is longer than a word need not be found as a whole. A pair of two scripts is where a word ends, and
    matters only where a single character has an ending.
    """
    groups: list[tuple[str, Group]] = []
    mixed: list[str] = []
    for kind, grouped in groupby(pairs, _name_script):
        found = tuple(grouped)
        if kind:
            groups.append((kind, Group(found, _count_needed(kind, len(found)))))
        else:
            mixed += found
    if mixed and all(kind == "hiragana" for kind, _ in groups):
        groups.append(("mixed", Group(tuple(mixed), 1)))
    return groups


def _name_script(pair: str) -> str:
    return next((name for name, script in _SCRIPTS.items() if script.fullmatch(pair)), "")


def _count_needed(kind: str, pairs: int) -> int:
    if kind == "han":
        return min(pairs, 2)
    if kind == "hangul":
        return math.ceil(pairs / 3)
    return math.ceil(pairs * 2 / 3) if pairs <= 6 else max(4, math.ceil(pairs / 3))
