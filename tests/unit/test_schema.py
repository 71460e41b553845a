"""The names that fields may have."""

import pytest

from quarry.errors import InvalidArgumentError
from quarry.schema import Field, FieldType


@pytest.mark.parametrize(
    "name", ["a", "Price_EUR", "author.name", "a.b.c2", "size.0", "x" * 64, f"a.{'x' * 62}"]
)
def test_letters_digits_underscores_and_dots_between_make_a_name(name: str) -> None:
    assert Field(name, FieldType.KEYWORD).name == name


@pytest.mark.parametrize(
    "name", ["", "_id", "1a", "a-b", "a b", "a.", ".a", "a..b", "é", "a\n", "x" * 65, f"a.{'x' * 63}"]
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="joined by dots") as caught:
        Field(name, FieldType.KEYWORD)
    assert caught.value.field == "name"
