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


@pytest.mark.parametrize("command", ["stop-words", "synonyms"])
def test_a_file_of_another_encoding_is_named_with_what_to_do(cli, tmp_path, command) -> None:
    (tmp_path / "w.txt").write_bytes("le, la\n\xe9t\xe9, ete\n".encode("latin-1"))
    ended = cli("collection", command, "faq", tmp_path / "w.txt")
    assert ended.status == 1
    assert "w.txt:2: is not UTF-8: byte 0xe9 -- save it as UTF-8" in ended.err
    assert "codec" not in ended.err


def test_stop_words_are_lines() -> None:
    assert parse_stop_words("# none of ours\nle\n\n la \n") == ["le", "la"]
