"""The laws of event-time windows."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.trade import MAX_TIME_S, NS_PER_S
from cryptoflow.model.window import (
    EPOCH,
    HOUR,
    as_utc,
    ceil_window,
    epoch_ns,
    floor_window,
    utc_hour,
    utc_midnight,
    utc_time,
    window,
    window_start_ns,
)

times_ns = st.integers(0, MAX_TIME_S * NS_PER_S - 1)
lengths_s = st.sampled_from([1, 7, 60, 300, 3600, 86_400, 604_800])
aware_times = st.datetimes(
    datetime(2000, 1, 1),  # noqa: DTZ001 (hypothesis wants naive bounds)
    datetime(2099, 12, 31),  # noqa: DTZ001
    timezones=st.timezones(),
)


@given(times_ns, lengths_s)
def test_a_window_contains_its_event_time(time_ns: int, window_s: int) -> None:
    start_ns = window_start_ns(time_ns, window_s)
    assert start_ns <= time_ns < start_ns + window_s * NS_PER_S


@given(times_ns, lengths_s)
def test_windows_are_aligned_to_the_epoch(time_ns: int, window_s: int) -> None:
    assert (window(time_ns, window_s)[0] - EPOCH) % timedelta(seconds=window_s) == timedelta(0)


@given(times_ns, lengths_s)
def test_windows_tile_time_without_hole_or_overlap(time_ns: int, window_s: int) -> None:
    start_ns = window_start_ns(time_ns, window_s)
    end_ns = start_ns + window_s * NS_PER_S
    assert window(end_ns - 1, window_s) == window(time_ns, window_s)
    assert window(end_ns, window_s)[0] == window(time_ns, window_s)[1]


@given(times_ns, lengths_s)
def test_a_window_in_datetimes_is_the_one_in_nanoseconds(time_ns: int, window_s: int) -> None:
    start, end = window(time_ns, window_s)
    assert start == utc_time(window_start_ns(time_ns, window_s))
    assert end - start == timedelta(seconds=window_s)
    assert start.tzinfo is UTC


@given(times_ns)
def test_a_time_loses_only_its_nanoseconds(time_ns: int) -> None:
    assert (utc_time(time_ns) - EPOCH) // timedelta(microseconds=1) == time_ns // 1000


@given(aware_times.map(lambda moment: moment.astimezone(UTC)), lengths_s)
def test_the_edges_around_a_time_are_those_of_its_window(moment: datetime, window_s: int) -> None:
    start, end = window(epoch_ns(moment), window_s)
    assert floor_window(moment, window_s) == start
    assert ceil_window(moment, window_s) == (start if moment == start else end)


@given(aware_times.map(lambda moment: moment.astimezone(UTC)))
def test_a_time_in_nanoseconds_is_the_same_time(moment: datetime) -> None:
    assert utc_time(epoch_ns(moment)) == moment
    assert as_utc(moment.replace(tzinfo=None)) == moment


@given(aware_times)
def test_the_hour_is_the_utc_hour_at_or_before(moment: datetime) -> None:
    hour = utc_hour(moment)
    assert timedelta(0) <= moment - hour < HOUR
    assert (hour - EPOCH) % HOUR == timedelta(0)


@given(aware_times)
def test_the_date_is_the_utc_midnight_at_or_before(moment: datetime) -> None:
    date = utc_midnight(moment)
    assert timedelta(0) <= moment - date < timedelta(days=1)
    assert (date - EPOCH) % timedelta(days=1) == timedelta(0)


def test_a_window_that_ends_at_midnight_has_the_new_date() -> None:
    midnight = datetime(2021, 1, 8, tzinfo=UTC)
    assert utc_midnight(midnight) == midnight
    assert utc_midnight(midnight - timedelta(seconds=1)) == midnight - timedelta(days=1)


def test_the_machines_time_zone_changes_nothing() -> None:
    code = (
        "from cryptoflow.model.window import utc_midnight, window\n"
        "for second in range(1610063880, 1610064060, 60):\n"
        "    print(window(second * 10**9, 60), utc_midnight(window(second * 10**9, 60)[1]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"TZ": zone},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/St_Johns")
    }
    assert len(said) == 1
    assert "2021, 1, 8" in said.pop()
