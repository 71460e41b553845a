"""The rules of a vocabulary: what may be said, and what contradicts itself."""

import pytest

from quarry import vocabulary as module
from quarry.errors import (
    ConflictingFieldsError,
    DuplicateError,
    InvalidArgumentError,
    OutOfRangeError,
    RequiredError,
)
from quarry.vocabulary import (
    MAX_PHRASE_BYTES,
    MAX_RULE_PHRASES,
    MAX_STOP_WORDS,
    MAX_SYNONYM_PAIRS,
    MAX_SYNONYM_RULES,
    SynonymRule,
    Vocabulary,
    check_vocabulary,
    make_word_key,
)


def two_way(*phrases: str) -> SynonymRule:
    return SynonymRule(phrases)


def one_way(phrase: str, *finds: str) -> SynonymRule:
    return SynonymRule((phrase,), finds)


def many(count: int) -> tuple[SynonymRule, ...]:
    return tuple(two_way(f"a{n}", f"b{n}") for n in range(count))


PAIRED = tuple(one_way(f"a{n}", *(f"b{n}-{m}" for m in range(20))) for n in range(MAX_SYNONYM_PAIRS // 20))
"""As many pairs as there may be."""


@pytest.mark.parametrize(
    "vocabulary",
    [
        Vocabulary(),
        Vocabulary(many(MAX_SYNONYM_RULES), tuple(f"w{n}" for n in range(MAX_STOP_WORDS))),
        Vocabulary((two_way(*(f"a{n}" for n in range(MAX_RULE_PHRASES))),)),
        Vocabulary(PAIRED),
        Vocabulary((two_way("a", "b"), two_way("b", "c"), one_way("c", "d"))),
        Vocabulary((one_way("a", "b", "c"), one_way("b", "c"), one_way("d", "b"))),
        Vocabulary((two_way("c#", "c++", "x" * MAX_PHRASE_BYTES),), ("le",)),
    ],
)
def test_what_can_be_said_is_accepted(vocabulary: Vocabulary) -> None:
    check_vocabulary(vocabulary)


@pytest.mark.parametrize(
    ("vocabulary", "kind", "field"),
    [
        (Vocabulary(many(MAX_SYNONYM_RULES + 1)), OutOfRangeError, "synonyms"),
        (Vocabulary((*PAIRED[1:], one_way("a", *"bcdefghijklmnopqrstuv"))), OutOfRangeError, "synonyms"),
        (Vocabulary((), ("a",) * (MAX_STOP_WORDS + 1)), OutOfRangeError, "stop_words"),
        (Vocabulary((two_way(*"a" * (MAX_RULE_PHRASES + 1)),)), OutOfRangeError, "synonyms[0]"),
        (Vocabulary((two_way("a", "ä" * 101),)), OutOfRangeError, "synonyms[0].phrases[1]"),
        (Vocabulary((*many(1), two_way("a"))), RequiredError, "synonyms[1]"),
        (Vocabulary((two_way(),)), RequiredError, "synonyms[0]"),
        (Vocabulary((SynonymRule((), ("a", "b")),)), RequiredError, "synonyms[0]"),
        (Vocabulary((two_way("a", " "),)), RequiredError, "synonyms[0].phrases[1]"),
        (Vocabulary((one_way("a", "?!"),)), RequiredError, "synonyms[0].finds[0]"),
        (Vocabulary((), ("a", "")), RequiredError, "stop_words[1]"),
        (Vocabulary((two_way("a", "b", "A "),)), DuplicateError, "synonyms[0].phrases[2]"),
        (Vocabulary((one_way("a b", "c", "A  B"),)), DuplicateError, "synonyms[0].finds[1]"),
        (Vocabulary((two_way("a", "b"), two_way("c", "b", "a"))), DuplicateError, "synonyms[1]"),
        (Vocabulary((two_way("a", "b"), one_way("A", "b"))), DuplicateError, "synonyms[1]"),
        (Vocabulary((one_way("a", "b"), two_way("b", "a"))), DuplicateError, "synonyms[1]"),
        (Vocabulary((), ("le", "LE")), DuplicateError, "stop_words[1]"),
        (Vocabulary((), ("le la",)), OutOfRangeError, "stop_words[0]"),
        (Vocabulary((one_way("a", "b"), one_way("b", "a"))), ConflictingFieldsError, "synonyms[1]"),
        (
            Vocabulary((one_way("a", "b"), one_way("b", "c"), one_way("c", "a"))),
            ConflictingFieldsError,
            "synonyms[2]",
        ),
        (Vocabulary((one_way("a", "the"),), ("The",)), ConflictingFieldsError, "synonyms[0].finds[0]"),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_place(
    vocabulary: Vocabulary, kind: type[InvalidArgumentError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        check_vocabulary(vocabulary)
    assert type(caught.value) is kind
    assert caught.value.field == field


def test_the_key_of_a_phrase_is_made_once_however_many_pairs_it_is_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    def make(phrase: str) -> str:
        made.append(phrase)
        return make_word_key(phrase)

    monkeypatch.setattr(module, "make_word_key", make)
    phrases = [f"a{n}" for n in range(MAX_RULE_PHRASES)]
    check_vocabulary(Vocabulary((two_way(*phrases),)))
    assert made == phrases
