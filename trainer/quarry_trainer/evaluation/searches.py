"""The searches of a click log: which are held out, how often a query was asked, what was chosen."""

from collections.abc import Collection

import numpy as np

from quarry.clicks.log import Bool, ClickLog
from quarry.questions import make_question_key


def find_latest_pages(log: ClickLog, share: float) -> Bool:
    """Marks the pages that belong to the latest ``share`` of the searches, shape ``(n,)``; ties are later.

    A search is as late as its first page.
    """
    if not len(log):
        return np.zeros(0, np.bool_)
    first = log.first_pages
    order = np.sort(log.time_us[first])
    start = order[min(len(order) - 1, round((1 - share) * len(order)))]
    late: Bool = np.isin(log.search, log.search[first & (log.time_us >= start)])
    return late


def find_pages_for(log: ClickLog, queries: Collection[str]) -> Bool:
    """Marks the pages of searches for one of these queries, however they are written, shape ``(n,)``."""
    names = {make_question_key(query) for query in queries}
    wanted = np.array([name in names for name in log.queries], np.bool_)
    return wanted[log.query] if len(log) else np.zeros(0, np.bool_)


def count_searches(log: ClickLog) -> dict[str, int]:
    """Counts how many searches were for each query, as ``make_question_key`` has it."""
    counts = np.bincount(log.query[log.first_pages], minlength=len(log.queries)).tolist()
    return dict(zip(log.queries, counts, strict=True))


def collect_clicked_documents(log: ClickLog) -> dict[str, set[str]]:
    """Collects documents that were ever clicked, by query as ``make_question_key`` has it."""
    found: dict[str, set[str]] = {}
    page, place = np.nonzero(log.clicked)
    for query, document in zip(log.query[page].tolist(), log.document[page, place].tolist(), strict=True):
        found.setdefault(log.queries[query], set()).add(log.documents[document])
    return found
