"""The query language, which a search asks for: words, and marks that say how each is looked for.

    query  = { term }
    term   = [ "+" | "-" ] [ FIELD ":" ] ( phrase | word [ "*" | "~" [ "1" | "2" ] ] )
    phrase = '"' text '"'

A plus stands before what a document must have, a minus before what it must not have; all other terms are
optional. A word ends at a space or a quote. A backslash takes its meaning from the character after it.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby
from typing import NoReturn

from quarry.errors import QuerySyntaxError
from quarry.retrieval.text_query import Occurrence, Term, TermKind, TextQuery
from quarry.schema import FieldType, Schema

MAX_TERMS = 64
"""Terms that are not merely optional words, in one query."""
MIN_PREFIX = 2
"""Letters and digits in a row before a star."""
_SPACE = re.compile(r"\s*")
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9_.]{0,63}):")
_PHRASE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_WORD = re.compile(r'(?:[^\s"\\*~()]|\\.)+', re.DOTALL)
_ENDING = re.compile(r"(\*)|~([0-9]*)")
_TERM_END = re.compile(r"\s|$")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_INVISIBLE = re.compile("[\u00ad\ufe00-\ufe0f]")
"""Soft hyphens and variation selectors, which part no word."""
_JOINTS = frozenset({"AND", "OR", "NOT"})
_OCCURRENCES = {"+": Occurrence.REQUIRED, "-": Occurrence.EXCLUDED}


def parse_text_query(text: str, schema: Schema, path: str = "query") -> TextQuery:
    """Parses a query that is not empty.

    Args:
        path: of the request's field that holds ``text``, for errors.

    Raises:
        QuerySyntaxError: it is none; the first character is 1.
    """
    terms = list(_Parser(text, schema, path).read_terms())
    marked = sum(term.kind is not TermKind.WORDS or term.occurs is not Occurrence.OPTIONAL for term in terms)
    if marked > MAX_TERMS:
        raise QuerySyntaxError(path, f"has {marked} terms with marks, at most {MAX_TERMS} are allowed", 1)
    if all(term.occurs is Occurrence.EXCLUDED for term in terms):
        raise QuerySyntaxError(path, "only excludes: it needs something to look for", 1)
    return TextQuery(tuple(_join_words(terms)))


def _join_words(terms: list[Term]) -> Iterator[Term]:
    """Joins optional words without a mark, which are then one text, as in a plain query."""
    for plain, group in groupby(terms, lambda term: term == Term(term.text)):
        if plain:
            yield Term(" ".join(term.text for term in group))
        else:
            yield from group


class _Parser:
    """Reads terms from left to right.

    Attributes:
        place: of the next character.
    """

    def __init__(self, text: str, schema: Schema, path: str) -> None:
        self._text, self._path = text, path
        self._fields = {field.name: field for field in schema.fields}
        self._place = 0

    def read_terms(self) -> Iterator[Term]:
        while True:
            self._match(_SPACE)
            if self._place == len(self._text):
                return
            yield self._read_term()

    def _read_term(self) -> Term:
        start = self._place
        occurs = _OCCURRENCES.get(self._text[start], Occurrence.OPTIONAL)
        if occurs is not Occurrence.OPTIONAL:
            self._place += 1
            if self._text[self._place : self._place + 1] in _OCCURRENCES:
                self._fail("a term has one + or -; a backslash makes a second one part of the word")
        field = self._read_field()
        phrase = self._match(_PHRASE)
        if phrase is not None:
            term = Term(_drop_escapes(phrase[1]), TermKind.PHRASE, occurs, field)
        else:
            term = self._read_word(occurs, field)
        if not _can_be_found(term.text) and term != Term(term.text):
            self._fail("there is no word in this term", start)
        if not _TERM_END.match(self._text, self._place):
            self._fail(f"expected a space before {self._text[self._place]!r}, or a backslash")
        return term

    def _read_field(self) -> str:
        start = self._place
        name = self._match(_FIELD)
        if name is None:
            return ""
        field = self._fields.get(name[1])
        if field is None:
            problem = f"the collection has no field {name[1]!r}; a colon in a word needs a backslash"
            self._fail(problem, start)
        if field.type is not FieldType.TEXT or not field.searchable:
            self._fail(f"the field {name[1]!r} is not a text that is searched: use a filter", start)
        return field.name

    def _read_word(self, occurs: Occurrence, field: str) -> Term:
        start = self._place
        found = self._match(_WORD)
        if found is None:
            self._fail_at_start(start)
        word = _drop_escapes(found[0])
        if found[0] in _JOINTS and occurs is Occurrence.OPTIONAL and not field:
            self._fail(
                f"{word} is no operator: write + before what must be there, - before what must not", start
            )
        ending = self._match(_ENDING)
        if ending is None:
            return Term(word, TermKind.WORDS, occurs, field)
        if ending[1]:
            if _count_before_star(word) < MIN_PREFIX:
                self._fail(f"a star needs {MIN_PREFIX} letters or digits in a row before it", start)
            return Term(word, TermKind.PREFIX, occurs, field)
        if ending[2] not in ("", "1", "2"):
            self._fail(f"{ending[2]} letters may not differ: write ~, ~1 or ~2", ending.start())
        if occurs is Occurrence.EXCLUDED:
            self._fail("what is excluded cannot be fuzzy", ending.start())
        return Term(word, TermKind.FUZZY, occurs, field, int(ending[2] or 0))

    def _fail_at_start(self, start: int) -> NoReturn:
        if start == len(self._text):
            self._fail("expected a word or a phrase")
        match self._text[start]:
            case '"':
                self._fail("this quote has no end")
            case "(" | ")":
                self._fail("there are no parentheses: put a backslash before one that is part of a word")
            case "\\":
                self._fail("a character has to follow the backslash")
            case _:
                self._fail(f"expected a word or a phrase before {self._text[start]!r}")

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._place)
        if found is not None:
            self._place = found.end()
        return found

    def _fail(self, problem: str, place: int | None = None) -> NoReturn:
        position = (self._place if place is None else place) + 1
        raise QuerySyntaxError(self._path, problem, position)


def _count_before_star(word: str) -> int:
    """Counts the characters of the last word that an index makes of ``word``, without accents."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", word))
    words = [list(group) for is_part, group in groupby(text, _is_part_of_word) if is_part]
    return sum(not unicodedata.combining(character) for character in words[-1]) if words else 0


def _is_part_of_word(character: str) -> bool:
    return _can_be_found(character) or unicodedata.category(character).startswith("M")


def _can_be_found(text: str) -> bool:
    """Tells whether a text has a letter, a digit, or a symbol such as an emoji."""
    return any(character.isalnum() or unicodedata.category(character) == "So" for character in text)


def _drop_escapes(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)
