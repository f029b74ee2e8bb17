"""Reading candles and totals from a real Cassandra."""

from datetime import UTC, datetime, timedelta

import pytest
from cassandra.cluster import Session

from cryptoflow.errors import CassandraError
from cryptoflow.model.candle import Candle, Side, candle_row
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.connection import ensure_schema
from cryptoflow.tables.reader import (
    LIST_PAUSE,
    LONGEST_LIST_PAUSE_S,
    LatestCandles,
    Totals,
    batches_since,
    candle_trades,
    dates_back,
    latest,
    latest_of_all,
    marks,
    newest_candle,
    query_ids,
    side_trades,
    tables_id,
    totals,
    waiting_trades,
)
from cryptoflow.tables.schema import BATCHES, MARKS, BatchRecord, MarkRow
from cryptoflow.tables.writer import TableWriter

MIDNIGHT = datetime(2021, 1, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BTC = ("Coinbase", "BTC", "USD")
ETH = ("Kraken", "ETH", "USD")


@pytest.fixture
def writer(session: Session, settings: CassandraSettings) -> TableWriter:
    return TableWriter(session, settings)


def a_candle(start: datetime, series: tuple[str, str, str] = BTC, window_s: int = 60) -> Candle:
    return Candle(*series, start, window_s, 2, 4, 1, 3, 9, 5.1, 20.3, Side(4, 2.5, 8.25, 6.1), Side())


def stored(writer: TableWriter, *candles: Candle) -> list[Candle]:
    writer.put_candles(candles, 1)
    return sorted(candles, key=lambda candle: candle.window_start, reverse=True)


def test_the_newest_come_first_and_across_dates(session: Session, writer: TableWriter) -> None:
    newest_first = stored(writer, *(a_candle(MIDNIGHT + number * MINUTE) for number in range(-5, 5)))
    found = latest(session, *BTC, 60, 8, now=MIDNIGHT + 5 * MINUTE)
    assert found == [candle_row(candle) for candle in newest_first[:8]]


def test_the_open_window_up_to_midnight_is_read(session: Session, writer: TableWriter) -> None:
    [candle] = stored(writer, a_candle(MIDNIGHT - MINUTE))
    assert candle.date == MIDNIGHT
    assert latest(session, *BTC, 60, 20, now=MIDNIGHT - MINUTE / 2) == [candle_row(candle)]


def test_an_exchange_whose_clock_is_ahead_is_read(session: Session, writer: TableWriter) -> None:
    [candle] = stored(writer, a_candle(MIDNIGHT + MINUTE))
    assert latest(session, *BTC, 60, 20, now=MIDNIGHT - 2 * MINUTE) == [candle_row(candle)]


def test_days_without_trades_are_stepped_over(session: Session, writer: TableWriter) -> None:
    newest_first = stored(writer, a_candle(MIDNIGHT), a_candle(MIDNIGHT - 5 * DAY))
    assert latest(session, *BTC, 60, 20, now=MIDNIGHT + DAY) == [candle_row(candle) for candle in newest_first]


def test_a_break_of_many_days_cuts_off_none_of_those_asked_for(session: Session, writer: TableWriter) -> None:
    newest_first = stored(writer, a_candle(MIDNIGHT), *(a_candle(MIDNIGHT - 40 * DAY - n * MINUTE) for n in range(4)))
    for last_n in (1, 3, 5, 20):
        found = latest(session, *BTC, 60, last_n, now=MIDNIGHT + DAY)
        assert found == [candle_row(candle) for candle in newest_first[:last_n]]


def test_an_old_recording_is_found(session: Session, writer: TableWriter) -> None:
    newest_first = stored(writer, a_candle(MIDNIGHT), a_candle(MIDNIGHT - 40 * DAY))
    found = latest(session, *BTC, 60, 20, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert found == [candle_row(candle) for candle in newest_first]


def test_dates_back_start_where_the_open_window_may_end() -> None:
    assert dates_back(MIDNIGHT - MINUTE, 60, 2) == [
        MIDNIGHT + DAY,
        MIDNIGHT,
        MIDNIGHT - DAY,
        MIDNIGHT - 2 * DAY,
    ]
    assert dates_back(MIDNIGHT, 7 * 86_400, 1)[0] == MIDNIGHT + 8 * DAY


def test_other_series_and_window_lengths_do_not_show(session: Session, writer: TableWriter) -> None:
    stored(writer, a_candle(MIDNIGHT, ETH), a_candle(MIDNIGHT, BTC, window_s=300))
    assert latest(session, *BTC, 60, 20, now=MIDNIGHT) == []


def test_the_newest_of_every_pair(session: Session, writer: TableWriter) -> None:
    candles = [a_candle(MIDNIGHT - number * DAY, series) for number in range(3) for series in (BTC, ETH)]
    stored(writer, *candles, a_candle(MIDNIGHT, window_s=300))
    assert latest_of_all(session, 60) == [candle_row(candle) for candle in candles[:2]]
    assert latest_of_all(session, 60, market="Kraken") == [candle_row(candles[1])]
    assert latest_of_all(session, 60, coins=("BTC", "USD")) == [candle_row(candles[0])]
    two = latest_of_all(session, 60, last_n=2, market="Coinbase")
    assert two == [candle_row(candles[0]), candle_row(candles[2])]


class Clock:
    """Goes on by `step_s` each time it is looked at."""

    def __init__(self) -> None:
        self.now_s, self.step_s = 0.0, 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def test_of_a_known_pair_the_newest_show_at_once_on_a_new_date_too(session: Session, writer: TableWriter) -> None:
    [first] = stored(writer, a_candle(MIDNIGHT - 2 * MINUTE))
    clock = Clock()
    clock.step_s = 1.0
    latest_candles = LatestCandles(session, 60, last_n=2, clock=clock)
    assert latest_candles.newest(MIDNIGHT - 2 * MINUTE) == [candle_row(first)]
    clock.step_s = 0.0  # it is not listed again
    second, third = stored(writer, a_candle(MIDNIGHT - MINUTE), a_candle(MIDNIGHT))[::-1]
    assert second.date == MIDNIGHT
    assert latest_candles.newest(MIDNIGHT - MINUTE) == [candle_row(third), candle_row(second)]


def test_a_new_pair_shows_after_a_pause_that_goes_by_what_it_takes_to_look_for_it(
    session: Session, writer: TableWriter
) -> None:
    clock = Clock()
    latest_candles = LatestCandles(session, 60, clock=clock)
    assert latest_candles.newest(MIDNIGHT) == []
    [btc] = stored(writer, a_candle(MIDNIGHT))
    clock.step_s = 0.5
    assert latest_candles.newest(MIDNIGHT) == [candle_row(btc)]  # none was known: so it is looked each time
    [eth] = stored(writer, a_candle(MIDNIGHT, ETH))
    clock.now_s += LIST_PAUSE * 0.5 - 1
    assert latest_candles.newest(MIDNIGHT) == [candle_row(btc)]
    clock.now_s += 1
    assert latest_candles.newest(MIDNIGHT) == [candle_row(btc), candle_row(eth)]


def test_however_long_that_takes_it_shows_within_a_minute(session: Session, writer: TableWriter) -> None:
    clock = Clock()
    latest_candles = LatestCandles(session, 60, clock=clock)
    stored(writer, a_candle(MIDNIGHT))
    clock.step_s = 100.0
    latest_candles.newest(MIDNIGHT)
    stored(writer, a_candle(MIDNIGHT, ETH))
    clock.step_s = 0.0
    clock.now_s += LONGEST_LIST_PAUSE_S
    assert len(latest_candles.newest(MIDNIGHT)) == 2


def test_only_what_is_asked_for_is_looked_up_again_and_again(session: Session, writer: TableWriter) -> None:
    btc, eth = (stored(writer, a_candle(MIDNIGHT, series))[0] for series in (BTC, ETH))
    stored(writer, a_candle(MIDNIGHT, window_s=300))
    assert LatestCandles(session, 60, market="Kraken").newest(MIDNIGHT) == [candle_row(eth)]
    assert LatestCandles(session, 60, coins=("BTC", "USD")).newest(MIDNIGHT) == [candle_row(btc)]


def test_totals_sum_the_batches_and_a_replayed_batch_once(session: Session, writer: TableWriter) -> None:
    first = BatchRecord("one", 1, input_rows=10, late=1, duplicates=2, unreadable=3, watermark=MIDNIGHT)
    for batch in (first, first, BatchRecord("one", 2, input_rows=5), BatchRecord("two", 1, input_rows=100)):
        writer.put(BATCHES, [batch._replace(finished_at=MIDNIGHT + MINUTE)], 1)
    found = totals(session, "one")
    assert found[:6] == (2, 15, 1, 2, 3, 0)
    assert found.watermark == MIDNIGHT
    everything = totals(session)
    assert everything[:2] == (3, 115)
    assert everything.finished_at == MIDNIGHT + MINUTE


def test_no_batch_no_totals(session: Session) -> None:
    assert totals(session, "none") == Totals(0, 0, 0, 0, 0, 0, None, None)


def test_the_candles_of_a_span_are_counted_by_pair_and_window_across_midnight(
    session: Session, writer: TableWriter
) -> None:
    #   ----|-- span --|----    each bar a midnight's minute, the span five windows before it and five after
    start, end = MIDNIGHT - 5 * MINUTE, MIDNIGHT + 5 * MINUTE
    stored(writer, *(a_candle(MIDNIGHT + number * MINUTE, series) for number in range(-7, 7) for series in (BTC, ETH)))
    stored(writer, a_candle(MIDNIGHT, window_s=300))
    inside = {(series, MIDNIGHT + number * MINUTE): 9 for number in range(-5, 5) for series in (BTC, ETH)}
    assert candle_trades(session, 60, start, end) == inside
    assert side_trades(session, 60, start, end) == {(*BTC, "BUY"): 40, (*ETH, "BUY"): 40}
    assert candle_trades(session, 300, MIDNIGHT, end) == {(BTC, MIDNIGHT): 9}
    assert side_trades(session, 300, MIDNIGHT, end) == {(*BTC, "BUY"): 4}


def test_of_a_span_without_candles_nothing_is_counted(session: Session) -> None:
    assert candle_trades(session, 60, MIDNIGHT, MIDNIGHT + 5 * MINUTE) == {}
    assert side_trades(session, 60, MIDNIGHT, MIDNIGHT + 5 * MINUTE) == {}


def test_the_batches_of_a_query_come_back_as_they_were_written(session: Session, settings: CassandraSettings) -> None:
    done = [
        BatchRecord("one", number, number, 1, watermark=MIDNIGHT, finished_at=MIDNIGHT + number * MINUTE)
        for number in range(4)
    ]
    TableWriter(session, settings).put(BATCHES, [*done, BatchRecord("two", 7)], 1)
    assert query_ids(session) == ["one", "two"]
    assert list(batches_since(session, "one", MIDNIGHT)) == done[::-1]
    assert list(batches_since(session, "one", MIDNIGHT + 2 * MINUTE)) == [done[3], done[2]]
    assert list(batches_since(session, "one", MIDNIGHT + DAY)) == []
    [other] = batches_since(session, "two", MIDNIGHT)
    assert other.watermark is None


def test_trades_that_wait_for_a_repair_are_counted_and_their_hours_come_oldest_first(
    session: Session, writer: TableWriter
) -> None:
    assert (waiting_trades(session), marks(session)) == (0, [])
    rows = [
        MarkRow(
            MIDNIGHT + hour * HOUR, *pair, "an-id", 1, 5, 9, "trades", hour + 3, MIDNIGHT + hour * HOUR + MINUTE, "late"
        )
        for hour in (1, -1, 0)
        for pair in (BTC, ETH)
    ]
    writer.put(MARKS, rows, 1)
    assert marks(session) == sorted(rows)
    assert waiting_trades(session) == 18


def test_the_newest_candle_of_all_pairs_is_told_for_each_window_length(session: Session, writer: TableWriter) -> None:
    assert newest_candle(session, 60) is None
    stored(writer, a_candle(MIDNIGHT - 40 * DAY), a_candle(MIDNIGHT, ETH), a_candle(MIDNIGHT + DAY, window_s=300))
    assert newest_candle(session, 60) == MIDNIGHT
    assert newest_candle(session, 300) == MIDNIGHT + DAY


def test_tables_that_are_made_anew_have_another_id(session: Session, settings: CassandraSettings) -> None:
    before = tables_id(session)
    assert tables_id(session) == before
    session.execute("DROP TABLE candles")
    with pytest.raises(CassandraError, match="cryptoflow run --mode kafka"):
        tables_id(session)
    ensure_schema(session, settings)
    assert tables_id(session) != before


def test_without_tables_the_way_to_some_is_told(bare_session: Session) -> None:
    with pytest.raises(CassandraError, match="cryptoflow run --mode kafka"):
        latest_of_all(bare_session, 60)
    with pytest.raises(CassandraError, match="cryptoflow run --mode kafka"):
        totals(bare_session)
    with pytest.raises(CassandraError, match="cryptoflow run --mode kafka"):
        tables_id(bare_session)
    with pytest.raises(CassandraError, match="cryptoflow run --mode kafka"):
        query_ids(bare_session)
