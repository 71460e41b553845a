"""What a base re-ranker reads, and in which order."""

from collections import Counter

import pytest

from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.trainings.document_pretraining import plan_course

DOCUMENTS = 51


def group(query: str) -> TextGroup:
    """Its negatives named by their places, best first."""
    return TextGroup(
        query,
        tuple(f"d{n}" for n in range(DOCUMENTS)),
        tuple(map(str, range(DOCUMENTS))),
        (1.0,) * DOCUMENTS,
        (True,) + (False,) * (DOCUMENTS - 1),
        (1.0,) * DOCUMENTS,
    )


@pytest.mark.parametrize(("wanted", "often"), [(15, {0, 1}), (20, {1}), (50, {2, 3})])
def test_a_course_goes_from_easy_to_hard_once_whatever_its_length(wanted: int, often: set[int]) -> None:
    groups = [group(f"query {n}") for n in range(20)]
    found = plan_course(groups, wanted, seed=0)
    assert len(found) == wanted
    counts = Counter(one.query for one in found)
    assert {counts[one.query] for one in groups} == often
    hardest = [int(one.passages[1]) for one in found]
    assert hardest == sorted(hardest, reverse=True)
    assert (hardest[0], hardest[-1]) == (15, 2 if wanted < 30 else 1)
    assert plan_course(groups, wanted, seed=0) == found
