"""The versions that have learned from feedback of a time, so that a purge of it can name them."""

import sqlalchemy as sa

from quarry.registry.rankings import read_rankings
from quarry.registry.versions import ModelState, ModelVersion, list_versions
from quarry.training.spec import TrainingResult, TuningResult


def list_learned_from(
    connection: sa.Connection, key: int, start_us: int | None, end_us: int | None
) -> list[str]:
    """Lists versions of a collection's models and ranking configurations that rest on feedback of a time.

    The time is from ``start_us`` to before ``end_us``. Models come first, oldest first, with those that were
    trained from one of them or learned its scores, and without retired ones, whose weights are gone. Whether
    any of what was purged is in them is not known, only that it may be.
    """
    found: dict[str, ModelVersion] = {}
    for version in reversed([one for one in list_versions(connection) if one.key == key]):
        learned = {version.result.base, version.result.teacher} if version.result else set()
        if learned & found.keys() or _overlaps(version.result, start_us, end_us):
            found[version.name] = version
    models = [name for name, version in found.items() if version.state is not ModelState.RETIRED]
    rankings = read_rankings(connection, key)
    return [*models, *(one.name for one in rankings if _overlaps(one.result, start_us, end_us))]


def _overlaps(result: TrainingResult | TuningResult | None, start_us: int | None, end_us: int | None) -> bool:
    if result is None or result.feedback_start_us is None or result.feedback_end_us is None:
        return False
    begins_before = end_us is None or result.feedback_start_us < end_us
    return begins_before and (start_us is None or result.feedback_end_us >= start_us)
