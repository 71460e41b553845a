"""Words that are spelled nearly as one that no document has."""

MAX_TYPOS = 32
"""Words of a query that are looked for under near spellings."""

FUZZY_SHARE = 0.5
"""What a near word counts beside one that is spelled as in the query."""


def choose_distance(word: str) -> int:
    """Chooses how many letters of ``word`` may differ: none of 3, 1 of 4 to 7, 2 of 8 and more."""
    return 0 if len(word) < 4 else 1 if len(word) < 8 else 2


def compute_distance(a: str, b: str) -> int:
    """Computes how many letters differ: replaced, left out, added, or swapped with the next one.

    Source: the optimal string alignment distance.
    """
    before: list[int] = []
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            best = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, above = above, row
    return above[-1]
