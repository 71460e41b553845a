"""Which versions have learned from feedback of a time, so that a purge of it can name them."""

import sqlalchemy as sa

from quarry.registry.versions import ModelState, ModelVersion, list_versions


def learned_from(connection: sa.Connection, key: int, start_us: int | None, end_us: int | None) -> list[str]:
    """Versions of a collection whose examples rest on feedback from ``start_us`` to before ``end_us``.

    Oldest first, with those that were trained from one of them or learned its scores, and without retired
    ones, whose weights are gone. Whether any of what was purged is in them is not known, only that it may be.
    """
    found: dict[str, ModelVersion] = {}
    for version in reversed([one for one in list_versions(connection) if one.key == key]):
        learned = {version.result.base, version.result.teacher} if version.result else set()
        if learned & found.keys() or _overlaps(version, start_us, end_us):
            found[version.name] = version
    return [name for name, version in found.items() if version.state is not ModelState.RETIRED]


def _overlaps(version: ModelVersion, start_us: int | None, end_us: int | None) -> bool:
    result = version.result
    if result is None or result.feedback_start_us is None or result.feedback_end_us is None:
        return False
    begins_before = end_us is None or result.feedback_start_us < end_us
    return begins_before and (start_us is None or result.feedback_end_us >= start_us)
