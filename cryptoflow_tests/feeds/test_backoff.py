"""The waits between reconnects."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.feeds.backoff import backoff

draws = st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20)


@given(draws)
def test_each_wait_is_at_least_5_s_and_at_most_60_s(randoms: list[float]) -> None:
    assert all(5 <= delay_s <= 60 for delay_s in islice(backoff(iter(randoms).__next__), 20))


@given(draws)
def test_any_minute_holds_far_fewer_than_60_connects(randoms: list[float]) -> None:
    delays_s = list(islice(backoff(iter(randoms).__next__), 20))
    assert all(sum(delays_s[start : start + 12]) >= 60 for start in range(9))


def test_the_waits_grow_until_they_vary_around_the_longest() -> None:
    assert list(islice(backoff(lambda: 0.0), 6)) == [5, 10, 20, 30, 30, 30]
    assert list(islice(backoff(lambda: 0.999999), 6))[-1] > 59


def test_jitter_sets_two_clients_apart_at_every_step() -> None:
    first, second = backoff(lambda: 0.2), backoff(lambda: 0.7)
    assert all(one != other for one, other in islice(zip(first, second, strict=True), 20))


@given(st.floats(0.001, 1000), st.floats(0.001, 1000), draws)
def test_no_wait_is_shorter_than_the_least(min_s: float, max_s: float, randoms: list[float]) -> None:
    assert all(
        min_s <= delay_s <= max(min_s, max_s) for delay_s in islice(backoff(iter(randoms).__next__, min_s, max_s), 20)
    )
