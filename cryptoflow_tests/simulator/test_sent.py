"""Laws of what is kept of the sent trades."""

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.simulator.sent import Ids


@given(st.lists(st.integers(-5, 60)))
def test_ids_are_a_set_of_numbers_in_as_few_stretches_as_it_has_holes(numbers: list[int]) -> None:
    ids = Ids()
    for number in numbers:
        ids.add(number)
    assert [number for number in range(-10, 70) if number in ids] == sorted(set(numbers))
    assert [number for stretch in ids.stretches for number in stretch] == sorted(set(numbers))
    assert len(ids.stretches) == sum(number - 1 not in set(numbers) for number in set(numbers))
