"""The part of a text that shows best why it was found."""

import re

WORD = re.compile(r"\w+")
STOP_WORDS = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "how", "i", "in"}
    | {"is", "it", "my", "of", "on", "or", "that", "the", "to", "what", "when", "with"}
)
SUFFIX = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|e)$")


def make_query_pattern(query: str) -> re.Pattern[str] | None:
    """Matches the query's words and their close forms; None if the query has no word.

    Only for the eye: what matched in BM25 is the analyser's to say.
    """
    words = {word.casefold() for word in WORD.findall(query)}
    stems = {SUFFIX.sub("", word) for word in (words - STOP_WORDS or words)}
    if not stems:
        return None
    forms = [re.escape(stem) + (r"\w{0,3}" if len(stem) > 2 else "") for stem in sorted(stems)]
    return re.compile(rf"\b(?:{'|'.join(forms)})\b", re.IGNORECASE)


def cut_excerpt(text: str, pattern: re.Pattern[str] | None, size: int) -> str:
    """Cuts at most about ``size`` characters of ``text``: where most query words are, else the first."""
    text = " ".join(text.split())
    if len(text) <= size:
        return text
    start = _find_best_start(text, pattern, size) if pattern else 0
    if start:
        start = text.rfind(" ", 0, start) + 1
    end = min(len(text), start + size)
    if end < len(text):
        end = max(text.rfind(" ", start, end), start + size // 2)
    return f"{'… ' if start else ''}{text[start:end].rstrip()}{' …' if end < len(text) else ''}"


def _find_best_start(text: str, pattern: re.Pattern[str], size: int) -> int:
    """Finds where the window begins that holds the most different matches; a little before its first one."""
    found = [(match.start(), match.group().casefold()[:4]) for match in pattern.finditer(text)]
    lead = size // 8
    best, best_count = 0, len({word for at, word in found if at < size})
    for first, _ in found:
        begin = max(0, min(first - lead, len(text) - size))
        count = len({word for at, word in found if begin <= at < begin + size})
        if count > best_count:
            best, best_count = begin, count
    return best
