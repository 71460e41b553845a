from hypothesis import given
from hypothesis import strategies as st

from quarry.models.runtime.packing import WASTE_SHARE, pack

LENGTHS = st.lists(st.integers(1, 300), max_size=200)
BUDGETS = st.integers(16, 1_024)


@given(lengths=LENGTHS, budget=BUDGETS)
def test_every_input_is_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    assert sorted(i for batch in pack(lengths, budget) for i in batch) == list(range(len(lengths)))


@given(lengths=LENGTHS, budget=BUDGETS)
def test_a_batch_keeps_its_budget_and_wastes_little_of_it(lengths: list[int], budget: int) -> None:
    for batch in pack(lengths, budget):
        padded = len(batch) * max(lengths[i] for i in batch)
        assert len(batch) == 1 or padded <= budget
        assert padded - sum(lengths[i] for i in batch) <= budget * WASTE_SHARE
