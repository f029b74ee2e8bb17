"""Laws of where an aggregation starts and where a slice of its backlog ends.

Slices are drawn over partitions with times of receipt in ms, running to the right.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.offsets import Offsets, later, records
from cryptoflow.model.trade import NS_PER_S
from cryptoflow.model.window import EPOCH, HOUR, ceil_window, epoch_ns, floor_window, utc_hour
from cryptoflow.pipeline.place import (
    EMPTY_HOURS,
    finished_by,
    finished_hours,
    first_start,
    hours_after,
    next_start,
    slice_end,
    start_behind_cut,
)
from cryptoflow.tables.progress import Progress

NOON = datetime(2021, 1, 8, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000
PARTITIONS = range(3)

Received = dict[int, list[int]]
"""When each partition's records were received, in ms; a record's offset is its place."""

windows_s = st.sampled_from([1, 60, 300, 3600])
moments = st.datetimes(datetime(1971, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
offsets = st.fixed_dictionaries({place: st.integers(0, 1000) for place in PARTITIONS})
times_ms = st.one_of(st.integers(NOON_MS, NOON_MS + 5), st.integers(NOON_MS, NOON_MS + 10_000_000))
topics = st.fixed_dictionaries({place: st.lists(times_ms, max_size=20).map(sorted) for place in PARTITIONS})


def times_of(topic: Received) -> Callable[[int, Offsets], Offsets]:
    """As Kafka answers: the first offset received at a time or later, the end where there is none."""
    return lambda ms, ends: {
        place: next((offset for offset, at_ms in enumerate(times) if at_ms >= ms), ends[place])
        for place, times in topic.items()
    }


def ends_of(topic: Received) -> Offsets:
    return {place: len(times) for place, times in topic.items()}


@given(topics, st.integers(1, 30))
def test_slices_cover_the_log_none_moves_back_and_each_ends_at_one_time(topic: Received, most: int) -> None:
    #  0 |--x--x-|--x----|---x--|
    #  1 |-------|-x-xx-x|------|
    begin, ends = dict.fromkeys(topic, 0), ends_of(topic)
    slices = 0
    while begin != ends:
        end = slice_end(begin, ends, most, times_of(topic))
        assert records(begin, end) > 0
        assert all(begin[place] <= end[place] <= ends[place] for place in topic)
        before = [topic[place][offset] for place in topic for offset in range(end[place])]
        behind = [topic[place][offset] for place in topic for offset in range(end[place], ends[place])]
        assert not before or not behind or max(before) < min(behind)
        begin, slices = end, slices + 1
    assert slices <= sum(ends.values())


@given(topics, st.integers(1, 30))
def test_a_slice_has_more_records_than_asked_for_only_where_no_time_separates_them(topic: Received, most: int) -> None:
    begin, ends = dict.fromkeys(topic, 0), ends_of(topic)
    end = slice_end(begin, ends, most, times_of(topic))
    if records(begin, end) > most:
        assert len({topic[place][offset] for place in topic for offset in range(end[place])}) == 1
    elif end != ends:  # one time more would have been too much
        next_ms = min(topic[place][end[place]] for place in topic if end[place] < ends[place])
        assert records(begin, times_of(topic)(next_ms + 1, ends)) > most


@given(topics, st.integers(1, 30), st.data())
def test_a_slice_that_begins_behind_a_time_never_ends_before_it_begins(
    topic: Received, most: int, data: st.DataObject
) -> None:
    begin = {place: data.draw(st.integers(0, len(times))) for place, times in topic.items()}
    end = slice_end(begin, ends_of(topic), most, times_of(topic))
    assert all(begin[place] <= end[place] for place in topic)
    assert begin == ends_of(topic) or records(begin, end) > 0


def test_a_first_aggregation_reads_all_that_the_topic_has() -> None:
    start = first_start({0: 0, 1: 0}, EPOCH, EPOCH, 60)
    assert start == Progress(EPOCH, {0: 0, 1: 0}, {0: 0, 1: 0}, EPOCH, EPOCH)


@given(offsets, st.one_of(st.just(EPOCH), moments), st.one_of(st.just(EPOCH), moments), windows_s)
def test_the_window_that_a_cut_is_in_and_candles_out_of_another_topic_are_left_alone_and_their_trades_are_late(
    begins: Offsets, cut: datetime, kept_until: datetime, window_s: int
) -> None:
    kept_until = floor_window(kept_until, window_s)
    start = first_start(begins, cut, kept_until, window_s)
    assert start.finished == start.origin == start.newest == max(kept_until, ceil_window(cut, window_s))
    assert start.begins == start.offsets == begins


progresses = st.builds(
    Progress, moments.map(lambda moment: floor_window(moment, 3600)), offsets, offsets, st.just(EPOCH), moments
)


@given(progresses, offsets)
def test_the_next_one_goes_on_where_it_was_committed_if_the_log_still_has_all_it_needs(
    stored: Progress, less: Offsets
) -> None:
    begins = {place: max(0, stored.begins[place] - less[place]) for place in PARTITIONS}
    assert next_start(stored, begins) == stored


@given(progresses, offsets, moments, windows_s)
def test_behind_a_cut_it_begins_with_the_first_window_of_which_nothing_can_be_missing(
    stored: Progress, more: Offsets, whole_from: datetime, window_s: int
) -> None:
    begins = {place: stored.begins[place] + more[place] + (place == 0) for place in PARTITIONS}
    start = start_behind_cut(stored, begins, whole_from, window_s)
    assert start.finished == start.origin >= max(stored.finished, whole_from)
    assert start.finished == stored.finished or start.finished < whole_from + timedelta(seconds=window_s)
    assert epoch_ns(start.finished) % (window_s * NS_PER_S) == 0
    assert start.begins == later(stored.begins, begins)
    assert start.offsets == later(stored.offsets, begins)


def test_a_partition_that_is_new_to_the_topic_is_read_from_its_beginning() -> None:
    stored = Progress(NOON, {0: 90}, {0: 80})
    start = next_start(stored, {0: 10, 1: 0})
    assert start == msgspec.structs.replace(stored, offsets={0: 90, 1: 0}, begins={0: 80, 1: 0})


@given(moments, windows_s, st.floats(0.001, 86_400), moments)
def test_windows_are_finished_that_end_by_the_watermark_and_stay_so(
    newest: datetime, window_s: int, watermark_s: float, before: datetime
) -> None:
    finished = finished_by(newest, watermark_s, window_s, before)
    assert finished_by(None, watermark_s, window_s, before) == before
    assert finished >= before
    if finished > before:
        watermark = newest - timedelta(seconds=watermark_s)
        assert finished <= watermark < finished + timedelta(seconds=window_s)
        assert floor_window(finished, window_s) == finished


@given(
    st.lists(st.integers(0, 3 * EMPTY_HOURS * 60), min_size=2, max_size=9).map(sorted),
    st.sets(st.integers(0, 3 * EMPTY_HOURS), max_size=9),
)
def test_each_hour_with_trades_is_finished_once_and_so_are_those_without_up_to_a_week(
    minutes: list[int], traded: set[int]
) -> None:
    hours = {NOON + number * HOUR for number in traded}
    found: list[datetime] = []
    for before, after in pairwise(NOON + timedelta(minutes=minute) for minute in minutes):
        new = finished_hours(before, after, hours)
        ended = {NOON + number * HOUR for number in range((utc_hour(after) - NOON) // HOUR)}
        ended -= {hour for hour in ended if hour < utc_hour(before)}
        assert ended & hours <= set(new) <= ended
        assert len(ended) > EMPTY_HOURS or set(new) == ended
        found += new
    assert found == sorted(set(found))


def test_the_first_hour_that_is_finished_is_the_first_one_that_has_trades() -> None:
    three = [NOON + number * HOUR for number in range(3)]
    assert finished_hours(EPOCH, NOON + 3 * HOUR, {NOON, NOON + 3 * HOUR}) == three
    assert finished_hours(EPOCH, NOON + 3 * HOUR, ()) == []


@given(st.integers(0, 3 * EMPTY_HOURS), st.integers(0, 3 * EMPTY_HOURS * 60), st.sets(st.integers(0, 3 * EMPTY_HOURS)))
def test_after_a_late_trade_each_finished_hour_is_judged_up_to_one_that_is_or_for_a_week(
    late: int, finished: int, judged: set[int]
) -> None:
    #  hour    l  .  .  .  j  .     l: the late trade's, j: has a verdict
    #  found      x  x  x
    known = {NOON + number * HOUR for number in judged}
    found = hours_after(NOON + late * HOUR, NOON + timedelta(minutes=finished), known)
    assert found == [NOON + (late + 1 + number) * HOUR for number in range(len(found))]
    assert not known.intersection(found)
    after = NOON + (late + 1 + len(found)) * HOUR
    assert len(found) == EMPTY_HOURS or after in known or after + HOUR > NOON + timedelta(minutes=finished)
