"""Names of ranking configurations, `COLLECTION/ranking@NUMBER`."""

import re

NAME = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})/ranking@([1-9][0-9]{0,8})")


def make_ranking_name(collection: str, number: int) -> str:
    return f"{collection}/ranking@{number}"


def parse_ranking_name(name: str) -> tuple[str, int] | None:
    """Parses a name to collection and number; None for what is no configuration's name."""
    found = NAME.fullmatch(name)
    return None if found is None else (found[1], int(found[2]))
