"""Laws of a stream's time."""

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.simulator.pacing import Stopwatch


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=20))
def test_only_the_time_between_start_and_stop_counts(spans: list[tuple[int, int]]) -> None:
    stopwatch, now_s = Stopwatch(), 0
    for idle_s, running_s in spans:
        now_s += idle_s
        assert stopwatch.read(now_s) == stopwatch.read(now_s + 1)
        stopwatch.start(now_s)
        stopwatch.start(now_s + running_s // 2)
        now_s += running_s
        assert stopwatch.read(now_s) == stopwatch.read(now_s + 1) - 1
        stopwatch.stop(now_s)
        stopwatch.stop(now_s + 1)
    assert stopwatch.read(now_s) == sum(running_s for _, running_s in spans)
