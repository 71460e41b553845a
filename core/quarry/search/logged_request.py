"""The part of a search request that the feedback log keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from quarry.search.exploration import FairPairs


@dataclass(frozen=True, slots=True)
class SearchContext:
    """The person who searches, and where the answer is shown.

    Attributes:
        simulated: a program searches, not a person.
        trial: somebody tries the search out: nothing is learned from it.
    """

    user_id: str = ""
    session_id: str = ""
    surface: str = ""
    layout: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    simulated: bool = False
    trial: bool = False


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """The request to log: what was asked, by whom, and how the order is to be explored.

    Attributes:
        text: what the user typed, spaces around it cut.
        filter: the request's, serialized so that equal ones are equal bytes; empty for none.
    """

    text: str
    filter: bytes
    context: SearchContext
    exploration: FairPairs
