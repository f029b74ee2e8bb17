"""A month of a pair's past by a Dagster backfill that is killed: all of it in the topic, and hardly a page asked twice.

The venue is a simulator of Coinbase with few trades, asked at the pace that is kept with the venue itself.
`python -m benchmarks.faults --only month` has a million, kills more, and goes on to the candles.
"""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

from cryptoflow.model.trade import read_trade
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow_tests.dagster_dev import DagsterDev
from cryptoflow_tests.defs.month import DAYS, check_requests, fetched, kills_of
from cryptoflow_tests.exactness import kafka as kafka_of
from cryptoflow_tests.running import Workplace
from cryptoflow_tests.topics import read_topic

FIRST = date(2026, 10, 1)
END_S = datetime(2026, 10, 31, 6, tzinfo=UTC).timestamp()
SUB = "0~Coinbase~BTC~USD"

KILLS = 1
"""More of them take half a minute each, until Dagster has launched the run again, and tell no more."""

RATE = 0.015
"""Trades/s: some two pages a day."""

MOST_ASKED = 40
"""Requests before a run is killed, at most."""

DONE_S = 220.0


def history(simulator: Simulator) -> list[str]:
    """The ids of the month's trades."""
    begin = datetime.combine(FIRST, datetime.min.time(), UTC)
    return [trade.id for trade in simulator.trades(SUB, begin.timestamp(), (begin + timedelta(days=DAYS)).timestamp())]


def test_a_month_is_fetched_to_the_last_trade_whatever_is_killed(place: Workplace) -> None:
    config = SimulatorConfig(
        venue="coinbase", pairs=("BTC-USD",), rate=1, start_time_s=END_S, history_s=31 * 86_400, history_rate=RATE,
        max_trades=1, faults=Faults(rest_too_many=0.01, retry_after_s=1),
    )  # fmt: skip
    with Simulator(config) as simulator:
        place.env |= {"CRYPTOFLOW_SOURCE": "coinbase", "COINBASE_REST_URL": simulator.rest_url}
        place.env |= {"CRYPTOFLOW_SUBSCRIPTIONS": SUB}
        with DagsterDev(place) as dagster:
            fetched(dagster, simulator, "Coinbase~BTC~USD", FIRST, kills_of(KILLS, MOST_ASKED, 7), DONE_S)
        kafka = kafka_of(place)
        found = Counter(read_trade(record.value).id for record in read_topic(kafka, kafka.history_topic))
        wanted = history(simulator)
        assert len(wanted) > 30_000
        assert {*found} - {*wanted} == {str(int(wanted[0]) - 1), str(int(wanted[-1]) + 1)}
        assert {*wanted} <= {*found}
        check_requests(simulator, len(wanted), KILLS)
