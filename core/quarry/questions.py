"""Says when two texts are one question, for all that counts, mines, trains and decides by queries."""

import unicodedata

SENTENCE_MARKS = "?!.,;:。、؟،؛۔।॥։"
"""Marks that end a sentence or a part of one, after NFKC: it has made ASCII of full-width ones."""
OPENING_MARKS = "¿¡"
STANDING_ALONE = frozenset(("", *"?!,;:؟،؛"))
"""Marks that are dropped where white space stands around them, as in French; no full stop: ``cd .``."""
OPERATORS = frozenset("$*=<>&|^~/\\@([{-")
"""A mark after one of these belongs to it: ``$?``, ``.*?``, ``<!``."""


def make_question_key(text: str) -> str:
    """Makes a key that two query texts have in common if and only if they are one question.

    Case, white space, Unicode's compatibility forms (NFKC) and the punctuation of a sentence at either end
    do not matter: ``Red  fruit?`` is ``red fruit``. Everything else does: ``c``, ``c++`` and ``c#``, ``-5``
    and ``5``, ``.net`` and ``net``, ``"exact phrase"`` and the same without quotes, ``5!`` and ``c:``. A
    text that is nothing but marks keeps them. The key of a key is the key.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = folded.split()
    while len(words) > 1 and words[-1] in STANDING_ALONE:
        words.pop()
    while len(words) > 1 and words[0].lstrip(OPENING_MARKS) in STANDING_ALONE:
        words.pop(0)
    if words:
        words[0] = words[0].lstrip(OPENING_MARKS) or words[0]
        words[-1] = _cut_ending(words[-1])
    return " ".join(words)


def has_words(text: str) -> bool:
    """Tells whether a text holds a letter or a digit: without one there is nothing to find it by."""
    return any(map(str.isalnum, text))


def _cut_ending(word: str) -> str:
    bare = word.rstrip(SENTENCE_MARKS)
    if not bare or bare[-1] in OPERATORS:
        return word
    # A factorial or a drive is no exclamation: ``5!``, ``n!``, ``c:``.
    if word[len(bare) :][:1] in ("!", ":") and (len(bare) == 1 or bare[-1].isdigit()):
        return word
    return bare
