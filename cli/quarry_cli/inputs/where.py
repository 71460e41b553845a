"""The language of `--where`: conditions on fields, joined by and, or, not and parentheses.

    expression = term { "or" term }
    term       = factor { "and" factor }
    factor     = "not" factor | "(" expression ")" | "exists" "(" FIELD ")"
               | FIELD "in" "(" value { "," value } ")" | FIELD OPERATOR value
    OPERATOR   = "=" | "!=" | "<" | "<=" | ">" | ">=" | "^="
    value      = '"' text '"' | "'" text "'" | words

A quoted value keeps every character; a backslash stands before a quote or a backslash in it. A value without
quotes is all words up to `and`, `or`, a parenthesis that it did not open, or the end; in a list a comma ends
it, too. Spaces around it do not count. Words of the language may be in capitals.
"""

import re
from typing import NoReturn

from quarry.v1 import types_pb2
from quarry_cli.inputs.conditions import compare, find_filterable, negate, require_all
from quarry_cli.inputs.values import FieldTypes, to_scalar

MAX_DEPTH = 16
"""Levels of parentheses and negations; the server takes no deeper filter."""
QUOTES = "a value that holds and, or, a quote or a parenthesis needs quotes around it"
_IN_NAME = re.compile(r"[A-Za-z0-9_.]")
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
_OPERATOR = re.compile(r">=|<=|!=|\^=|=|>|<")
_JOINT = re.compile(r"\s+(?:and|or)(?=[\s(]|$)", re.IGNORECASE)
_QUOTED = {quote: re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*){quote}", re.DOTALL) for quote in "\"'"}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_where(text: str, types: FieldTypes) -> types_pb2.Filter:
    """Parses an expression; its values take the types of the collection's fields.

    Raises:
        ValueError: it is none, or the collection has no such field to filter on. The message says where: the
            first character is 1.
    """
    parser = _Parser(text, types)
    found = parser.read_expression(0)
    if parser.place < len(text):
        parser.fail(f"expected and, or, or the end ({QUOTES})")
    return found


class _Parser:
    """Reads an expression from left to right.

    Attributes:
        place: of the next character that counts.
    """

    def __init__(self, text: str, types: FieldTypes) -> None:
        self._text, self._types = text, types
        self.place = 0
        self._move_to(0)

    def fail(self, problem: str, place: int | None = None) -> NoReturn:
        at = self.place if place is None else place
        raise ValueError(f"at character {at + 1}: {problem}")

    def read_expression(self, depth: int) -> types_pb2.Filter:
        terms = [self._read_term(depth)]
        while self._take_word("or"):
            terms.append(self._read_term(depth))
        if len(terms) == 1:
            return terms[0]
        return types_pb2.Filter(any_of=types_pb2.FilterList(filters=terms))

    def _read_term(self, depth: int) -> types_pb2.Filter:
        factors = [self._read_factor(depth)]
        while self._take_word("and"):
            factors.append(self._read_factor(depth))
        return require_all(factors) or factors[0]

    def _read_factor(self, depth: int) -> types_pb2.Filter:
        if depth == MAX_DEPTH:
            self.fail(f"is nested deeper than {MAX_DEPTH} levels")
        start = self.place
        if self._take("("):
            found = self.read_expression(depth + 1)
            self._expect(")")
            return found
        if self._take_word("exists") and self._take("("):
            name = self._read_field()
            self._expect(")")
            return types_pb2.Filter(exists=types_pb2.ExistsFilter(field=name))
        self.place = start
        if self._take_word("not") and not _OPERATOR.match(self._text, self.place):
            return negate(self._read_factor(depth + 1))
        self.place = start  # a field may be called exists or not
        return self._read_condition()

    def _read_condition(self) -> types_pb2.Filter:
        name = self._read_field()
        if self._take_word("in"):
            return self._read_list(name)
        operator = _OPERATOR.match(self._text, self.place)
        if operator is None:
            self.fail(f"expected =, !=, <, <=, >, >=, ^= or in after {name}")
        self.place = operator.end()
        start = _skip_space(self._text, self.place)
        value = self._read_value()
        try:
            return compare(name, operator.group(), value, self._types)
        except ValueError as error:
            self.fail(str(error), start)

    def _read_list(self, name: str) -> types_pb2.Filter:
        self._expect("(")
        found = types_pb2.OneOfFilter(field=name)
        while True:
            start = self.place
            value = self._read_value(in_list=True)
            try:
                found.values.append(to_scalar(value, self._types[name]))
            except ValueError as error:
                self.fail(f"{name}: the value {error}", start)
            if not self._take(","):
                self._expect(")")
                return types_pb2.Filter(one_of=found)

    def _read_field(self) -> str:
        """Reads the name of a field to filter on."""
        found = _FIELD.match(self._text, self.place)
        if found is None:
            self.fail("expected FIELD=VALUE, FIELD in (VALUE, ...), exists(FIELD), not or a parenthesis")
        try:
            find_filterable(found.group(), self._types)
        except ValueError as error:
            self.fail(f"{error}{f'; {QUOTES}' if self.place else ''}")
        self._move_to(found.end())
        return found.group()

    def _read_value(self, in_list: bool = False) -> str:
        begin = _skip_space(self._text, self.place)
        if self._text[begin : begin + 1] in _QUOTED:
            return self._read_quoted(begin)
        end = _find_end_of_words(self._text, self.place, in_list)
        value = self._text[self.place : end].strip()
        if in_list and not value:
            self.fail("expected a value", begin)
        self._move_to(end)
        return value

    def _read_quoted(self, begin: int) -> str:
        found = _QUOTED[self._text[begin]].match(self._text, begin)
        if found is None:
            self.fail("this quote has no end", begin)
        self._move_to(found.end())
        return _ESCAPED.sub(r"\1", found.group(1))

    def _expect(self, character: str) -> None:
        if not self._take(character):
            self.fail(f"expected {character!r}")

    def _take(self, character: str) -> bool:
        taken = self._text.startswith(character, self.place)
        if taken:
            self._move_to(self.place + 1)
        return taken

    def _take_word(self, word: str) -> bool:
        end = self.place + len(word)
        taken = self._text[self.place : end].lower() == word and not _IN_NAME.match(self._text, end)
        if taken:
            self._move_to(end)
        return taken

    def _move_to(self, place: int) -> None:
        self.place = _skip_space(self._text, place)


def _skip_space(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _find_end_of_words(text: str, place: int, in_list: bool) -> int:
    """Finds where a value without quotes ends that begins at ``place``."""
    opened = 0
    while place < len(text):
        character = text[place]
        if not opened and (_JOINT.match(text, place) or character == ")" or (in_list and character == ",")):
            break
        opened += (character == "(") - (character == ")")
        place += 1
    return place
