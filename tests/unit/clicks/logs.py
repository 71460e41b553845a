"""Small click logs, written by hand or drawn by hypothesis."""

from collections.abc import Sequence

from hypothesis import strategies as st

from quarry.clicks.log import ClickLog
from quarry.feedback.types import ObservedPage


def page(
    query: str,
    documents: str,
    clicked: str = "",
    *,
    refused: str = "",
    before: Sequence[int] | None = None,
    ranks: Sequence[int] | None = None,
    session: str = "s",
    ranker: str = "r",
    probabilities: Sequence[float] | None = None,
) -> ObservedPage:
    """A page whose documents are letters, from the top; ``clicked`` and ``refused`` name some of them."""
    count = len(documents)
    places = tuple(ranks or range(1, count + 1))
    return ObservedPage(
        search_id="",
        time_us=0,
        query=query,
        user_id="",
        session_id=session,
        ranker=ranker,
        simulated=False,
        documents=tuple(documents),
        contents=("",) * count,
        ranks=places,
        displayed=(True,) * count,
        rendered=True,
        clicked=tuple(document in clicked for document in documents),
        refused=tuple(document in refused for document in documents),
        ranks_before=tuple(before or places),
        rank_probabilities=tuple(probabilities or (1.0,) * count),
    )


@st.composite
def pages(draw: st.DrawFn) -> ObservedPage:
    """Pages of up to five hits: empty ones, duplicates, none or all clicked, refused, later pages."""
    count = draw(st.integers(0, 5))
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    first = draw(st.sampled_from([1, 1, 1, 4]))
    places = tuple(range(first, first + count))
    return ObservedPage(
        search_id="",
        time_us=0,
        query=draw(st.sampled_from(["p", "q"])),
        user_id="",
        session_id=draw(st.sampled_from("abc")),
        ranker=draw(st.sampled_from("rs")),
        simulated=False,
        documents=tuple(draw(st.lists(st.sampled_from("uvwxyz"), min_size=count, max_size=count))),
        contents=("",) * count,
        ranks=places,
        displayed=tuple(draw(flags)),
        rendered=True,
        clicked=tuple(draw(flags)),
        refused=tuple(draw(flags)),
        ranks_before=tuple(draw(st.permutations(places))),
        rank_probabilities=tuple(draw(st.sampled_from([(1.0,) * count, (0.5,) * count]))),
    )


def clicked_logs() -> st.SearchStrategy[ClickLog]:
    """Logs with at least one click."""
    several = st.lists(pages(), min_size=1, max_size=12).map(ClickLog.from_pages)
    return several.filter(lambda log: bool(log.clicked.any()))
