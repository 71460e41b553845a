"""Files of synonyms and stop words."""

import pytest

from quarry.v1.collection_service_pb2 import SynonymRule
from quarry_cli.inputs.vocabulary_file import dump_synonyms, parse_stop_words, parse_synonyms

TEXT = """\ufeff# what customers say
car, automobile , motor car

  pc,desktop => personal computer
c#, c sharp
"""


def test_a_line_is_a_rule_and_rules_become_lines_again() -> None:
    rules = list(parse_synonyms(TEXT))
    assert rules == [
        SynonymRule(phrases=["car", "automobile", "motor car"]),
        SynonymRule(phrases=["pc", "desktop"], finds=["personal computer"]),
        SynonymRule(phrases=["c#", "c sharp"]),
    ]
    assert list(parse_synonyms("\n".join(dump_synonyms(rules)))) == rules


@pytest.mark.parametrize("line", ["a", "a,", ",a", "a => ", "=> a", "a => b => c", "a => b,", "a, , b"])
def test_a_line_that_is_no_rule_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="line 2 has"):
        list(parse_synonyms(f"a, b\n{line}\n"))


def test_stop_words_are_lines() -> None:
    assert parse_stop_words("# none of ours\nle\n\n la \n") == ["le", "la"]
