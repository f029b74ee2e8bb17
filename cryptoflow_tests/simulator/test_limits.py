"""Laws of the venues' limits."""

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.simulator.limits import Bucket, Limit, Window

waits_s = st.lists(st.floats(0, 3), min_size=1, max_size=60)


def taken(limit: Limit, waits: list[float]) -> list[float]:
    """The times at which one was taken; tries once after each wait."""
    now_s, times = 0.0, []
    for wait_s in waits:
        now_s += wait_s
        if not limit.take(1, now_s):
            times.append(now_s)
    return times


@given(waits_s, st.floats(0.1, 10), st.integers(1, 20))
def test_a_bucket_gives_no_more_than_its_burst_and_what_has_filled_since(
    waits: list[float], rate: float, burst: int
) -> None:
    times = taken(Bucket(rate, burst), waits)
    for number, time_s in enumerate(times):
        since = [at for at in times[: number + 1] if time_s - at <= 1]
        assert len(since) <= burst + rate + 1


@given(waits_s, st.floats(0.1, 10), st.integers(1, 20))
def test_whoever_waits_as_long_as_a_limit_says_is_let_through(waits: list[float], rate: float, burst: int) -> None:
    for limit in (Bucket(rate, burst), Window(burst, 1 / rate)):
        now_s = 0.0
        for wait_s in waits:
            now_s += wait_s
            if more_s := limit.take(1, now_s):
                now_s += more_s + 1e-6
                assert limit.take(1, now_s) == 0


@given(waits_s, st.integers(1, 20))
def test_a_window_gives_no_more_than_its_most_in_each_period(waits: list[float], most: int) -> None:
    times = taken(Window(most, 2.0), waits)
    periods = [int(time_s // 2) for time_s in times]
    assert max((periods.count(period) for period in periods), default=0) <= most


def test_a_refused_request_takes_nothing() -> None:
    bucket = Bucket(1, 2)
    assert [bucket.take(1, 0) for _ in range(5)] == [0, 0, 1, 1, 1]
    assert bucket.take(1, 1) == 0
    window = Window(10, 60)
    assert (window.take(9, 30), window.take(2, 31), window.used) == (0, 29, 9)
    assert (window.take(1, 31), window.used, window.take(5, 60), window.used) == (0, 10, 0, 5)
