"""The words of a collection that mean the same, and those that searches leave out."""

import graphlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from quarry.errors import ConflictingFieldsError, DuplicateError, OutOfRangeError, RequiredError
from quarry.questions import has_words

MAX_SYNONYM_RULES = 10_000
MAX_RULE_PHRASES = 32
MAX_SYNONYM_PAIRS = 200_000
"""Of a phrase and another that it finds, in all rules together."""
MAX_PHRASE_BYTES = 200
MAX_STOP_WORDS = 10_000


@dataclass(frozen=True, slots=True)
class SynonymRule:
    """Words or phrases that mean the same.

    Attributes:
        phrases: each finds all others of the rule.
        finds: of a rule that goes one way: what ``phrases`` find, and what does not find them.
    """

    phrases: tuple[str, ...]
    finds: tuple[str, ...] = ()

    def list_others(self, phrase: str) -> Iterator[str]:
        """Lists what ``phrase``, which is one of ``phrases``, finds."""
        return (other for other in self.finds or self.phrases if other is not phrase)

    def list_pairs(self) -> Iterator[tuple[str, str]]:
        """Lists what finds what."""
        return ((phrase, other) for phrase in self.phrases for other in self.list_others(phrase))

    def count_pairs(self) -> int:
        """Counts what ``list_pairs`` lists."""
        return len(self.phrases) * (len(self.finds) or len(self.phrases) - 1)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Vocabulary:
    """The synonyms and stop words of a collection. Two are the same only if they are one object.

    Attributes:
        synonyms: rules; what a rule finds is not looked up in other rules.
        stop_words: left out of queries that have other words.
    """

    synonyms: tuple[SynonymRule, ...] = ()
    stop_words: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[tuple[SynonymRule, ...], tuple[str, ...]]:
        """All that it says, to compare it by."""
        return self.synonyms, self.stop_words


def check_vocabulary(vocabulary: Vocabulary) -> None:
    """Checks what a caller gives.

    Raises:
        OutOfRangeError: there is too much of something.
        RequiredError: a phrase has no letter and no digit, or a rule has too few.
        DuplicateError: something is said twice.
        ConflictingFieldsError: rules contradict each other, or go in a circle, or name a stop word.
    """
    for name, limit in (("synonyms", MAX_SYNONYM_RULES), ("stop_words", MAX_STOP_WORDS)):
        if len(getattr(vocabulary, name)) > limit:
            raise OutOfRangeError(name, f"has {len(getattr(vocabulary, name))} entries, at most {limit}")
    stop_words = _check_stop_words(vocabulary.stop_words)
    rules = [_check_rule(rule, f"synonyms[{n}]", stop_words) for n, rule in enumerate(vocabulary.synonyms)]
    pairs = sum(rule.count_pairs() for rule in rules)
    if pairs > MAX_SYNONYM_PAIRS:
        raise OutOfRangeError(
            "synonyms", f"have {pairs} pairs of what finds what, at most {MAX_SYNONYM_PAIRS}"
        )
    _check_pairs(rules)


def _check_stop_words(words: Sequence[str]) -> set[str]:
    keys: set[str] = set()
    for number, word in enumerate(words):
        path = f"stop_words[{number}]"
        _check_phrase(word, path)
        key = make_word_key(word)
        if " " in key:
            raise OutOfRangeError(path, f"{word!r} is more than one word")
        if key in keys:
            raise DuplicateError(path, f"{word!r} is there twice")
        keys.add(key)
    return keys


def _check_rule(rule: SynonymRule, path: str, stop_words: set[str]) -> SynonymRule:
    """Returns the rule with the word keys of its phrases: to make keys for each pair would take minutes."""
    phrases = [*rule.phrases, *rule.finds]
    if len(phrases) > MAX_RULE_PHRASES:
        raise OutOfRangeError(path, f"has {len(phrases)} phrases, at most {MAX_RULE_PHRASES} are allowed")
    if not rule.phrases or len(phrases) < 2:
        raise RequiredError(path, "needs two phrases, or one that finds another")
    keys: dict[str, None] = {}
    for number, phrase in enumerate(phrases):
        side, place = (
            ("phrases", number) if number < len(rule.phrases) else ("finds", number - len(rule.phrases))
        )
        where = f"{path}.{side}[{place}]"
        _check_phrase(phrase, where)
        key = make_word_key(phrase)
        if key in keys:
            raise DuplicateError(where, f"{phrase!r} is there twice")
        if key in stop_words:
            raise ConflictingFieldsError(where, f"{phrase!r} is a stop word, too")
        keys[key] = None
    ordered = tuple(keys)
    return SynonymRule(ordered[: len(rule.phrases)], ordered[len(rule.phrases) :])


def _check_phrase(phrase: str, path: str) -> None:
    if not has_words(phrase):
        raise RequiredError(path, "has no letter and no digit")
    if len(phrase.encode()) > MAX_PHRASE_BYTES:
        raise OutOfRangeError(path, f"is longer than {MAX_PHRASE_BYTES} bytes")


def _check_pairs(rules: Sequence[SynonymRule]) -> None:
    """Checks that rules of word keys say nothing twice, and do not lead in a circle."""
    one_way: dict[tuple[str, str], int] = {}
    two_way: dict[tuple[str, str], int] = {}
    for number, rule in enumerate(rules):
        for pair in rule.list_pairs():
            earlier = one_way.get(pair, two_way.get(pair))
            if earlier is not None:
                problem = f"says of {pair[0]!r} and {pair[1]!r} what rule {earlier} says"
                raise DuplicateError(f"synonyms[{number}]", problem)
            (one_way if rule.finds else two_way)[pair] = number
    _check_directions(one_way)


def _check_directions(one_way: dict[tuple[str, str], int]) -> None:
    """Checks that rules that go one way do not lead back to where they begin."""
    finds: dict[str, list[str]] = {}
    for phrase, other in one_way:
        finds.setdefault(phrase, []).append(other)
    try:
        graphlib.TopologicalSorter(finds).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1][::-1]
        number = max(one_way[pair] for pair in pairwise(circle))
        problem = f"closes a circle, {' => '.join(circle)[:300]}: a rule that goes both ways says that"
        raise ConflictingFieldsError(f"synonyms[{number}]", problem) from None


def make_word_key(phrase: str) -> str:
    """Makes what two spellings have in common that differ only in case, width and spaces."""
    return " ".join(unicodedata.normalize("NFKC", phrase).casefold().split())
