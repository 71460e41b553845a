"""The terms of a search: they say what it looks for in texts, where that is more than a text's words."""

from dataclasses import dataclass
from enum import StrEnum

from quarry.vocabulary import Vocabulary


class TermKind(StrEnum):
    WORDS = "words"
    PHRASE = "phrase"
    PREFIX = "prefix"
    FUZZY = "fuzzy"


class Occurrence(StrEnum):
    """Says whether a document needs a term: it may have it, must have it, or must not."""

    OPTIONAL = "optional"
    REQUIRED = "required"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a query looks for.

    Attributes:
        text: words as the user typed them. WORDS: any of them matches, or all in a row where the term is
            required or excluded. PHRASE: all in a row. PREFIX: the beginning of one word. FUZZY: one word.
        field: of the schema, the only one that is looked at; empty for all.
        distance: FUZZY: letters that may differ, 1 or 2; 0 for as many as suit the word's length.
        others: words or phrases that stand for the term as well; a document counts by the best one.
        languages: of the fields that are looked at; empty for all.
    """

    text: str
    kind: TermKind = TermKind.WORDS
    occurs: Occurrence = Occurrence.OPTIONAL
    field: str = ""
    distance: int = 0
    others: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    @property
    def is_optional_words(self) -> bool:
        """Whether a document may have any of its words, and need not have one."""
        return self.kind is TermKind.WORDS and self.occurs is Occurrence.OPTIONAL

    def is_for(self, language: str) -> bool:
        """Tells whether it is looked for in fields of this language."""
        return not self.languages or language in self.languages


@dataclass(frozen=True, slots=True)
class TextQuery:
    """The terms of a search. As a string it is what an encoder or a re-ranker reads of it.

    Attributes:
        terms: one at least that is not excluded.
        tolerates_typos: a word that no document has finds near ones.
        vocabulary: of the collection; None for none.
    """

    terms: tuple[Term, ...]
    tolerates_typos: bool = False
    vocabulary: Vocabulary | None = None

    def __str__(self) -> str:
        return " ".join(term.text for term in self.terms if term.occurs is not Occurrence.EXCLUDED)

    @property
    def restricts(self) -> bool:
        """Whether a document can be out of the question, however much it is alike."""
        return any(term.occurs is not Occurrence.OPTIONAL for term in self.terms)


SearchText = str | TextQuery
"""A plain text, whose words are looked for, or a query of terms. ``str`` makes either the text for models."""
