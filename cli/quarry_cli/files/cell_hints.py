"""Hints at columns whose values a person would clean or split before they are indexed."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from quarry.schema import FieldType
from quarry_cli.files.value_kinds import MOSTLY, find_type

SEPARATORS = ("|", ";")
"""The characters that are looked for between several values of one cell."""
OFTEN = 0.25
"""Share of cells with a separator from which they look like lists."""
MARKED = 0.5
"""Share of numbers with a currency or a comma from which they are no codes or postal codes."""
PLAIN_AMOUNT = re.compile(
    r"[+-]?(?:\d{1,3}(?:[.,'’ \u00a0\u202f]\d{3})+|\d+)?(?:[.,]\d{1,4}|[.,][-–]{1,2})?",
    re.ASCII,
)
"""A number as people write it: groups of three digits, and a point or a comma before the cents."""
CURRENCY_CODE = re.compile(r"^[A-Z]{3}(?![A-Za-z])|(?<![A-Za-z])[A-Z]{3}$")
MARKS = ",'’"
MONTH = r"[^\W\d_]{3,10}\.?"
PLAIN_DATE = re.compile(
    r"(?:\d{1,2}([./-])\d{1,2}\1\d{4}|\d\d([./])\d\d\2\d\d|\d{4}([./])\d{1,2}\3\d{1,2}"
    rf"|\d{{1,2}}\.?[ -]{MONTH},?[ -]\d{{2,4}}|{MONTH} \d{{1,2}},? \d{{4}})(?:,?[ T]+\d{{1,2}}:\d\d.*)?"
)
"""A date that is not ISO 8601: with the day in front, slashes or points, or the name of a month."""


def find_hint(name: str, kind: FieldType, values: Sequence[Any], separator: str) -> str:
    """Finds what a person should know about the values of a keyword or a text; empty if there is nothing.

    Args:
        kind: as which the values are indexed.
        values: one or more, none of them a list.
        separator: as which was given between the values of one cell; empty: none.
    """
    strings = [value.strip() for value in values if isinstance(value, str)]
    if kind not in (FieldType.KEYWORD, FieldType.TEXT) or not strings:
        return ""
    if is_money(strings):
        return (
            f"{name} looks like numbers with a currency sign or a comma, so < and --order-by would compare "
            "it as text; write them into the file as 1200.50"
        )
    if sum(bool(PLAIN_DATE.fullmatch(string)) for string in strings) >= MOSTLY * len(strings):
        return (
            f"{name} looks like dates that are not ISO 8601, so < and --order-by would compare it as text; "
            "write them into the file as 2024-12-31"
        )
    found = "" if separator else find_separator(name, strings)
    return (
        f"{name} often has {found} in a cell; --list-separator '{found}' would make it a list"
        if found
        else ""
    )


def is_money(strings: Sequence[str]) -> bool:
    """Tells whether most strings are numbers as people write them, and many of these name a currency or have
    a comma."""
    amounts = marked = 0
    for string in strings:
        rest = take_currency(string)
        if PLAIN_AMOUNT.fullmatch(rest) and any(map(str.isdigit, rest)):
            amounts += 1
            marked += rest != string or any(mark in rest for mark in MARKS)
    return amounts >= MOSTLY * len(strings) and marked >= MARKED * len(strings)


def take_currency(string: str) -> str:
    """Takes the sign or the code of a currency away, which stands before or behind the number."""
    signless = "".join(c for c in string if unicodedata.category(c) != "Sc")
    return CURRENCY_CODE.sub("", signless.strip(), count=1).strip()


def find_separator(name: str, strings: Sequence[str]) -> str:
    """Finds the character that stands between several values in many cells; empty if none does."""
    for separator in SEPARATORS:
        cells = [[part for piece in string.split(separator) if (part := piece.strip())] for string in strings]
        lists = sum(len(cell) > 1 for cell in cells)
        parts = [part for cell in cells for part in cell]
        if lists >= OFTEN * len(cells) and find_type(name, parts) is not FieldType.TEXT:
            return separator
    return ""
