"""A month of a pair's past, fetched by a Dagster backfill that is killed again and again, as far as to the candles."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from benchmarks.market import Market
from benchmarks.trial import trial
from cryptoflow.model.verdict import REPAIRED
from cryptoflow.model.window import EPOCH, utc_midnight
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.tables import hours
from cryptoflow.tables.connection import connect
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow_tests.dagster_dev import DagsterDev
from cryptoflow_tests.defs.month import DAYS, check_requests, fetched, kills_of
from cryptoflow_tests.exactness import cassandra as cassandra_of

DAY_S = 86_400
LIVE_RATE, LIVE_S = 1.0, 60
"""Trades/s of now, and for how long they are aggregated: with them the hours of the month are marked."""

PAIR, SUBSCRIPTION = "BTC-USD", "0~Coinbase~BTC~USD"
PAGE = 1000
DONE_S = 7200.0


def month(
    trades: int, kills: int, seed: int, kafka: KafkaSettings, cassandra: CassandraSettings, say: Callable[[str], None]
) -> dict[str, float]:
    """Fetch about so many trades; each of them is in a candle, each hour has its verdict, and the venue agrees."""
    begun_s, end = time.monotonic(), utc_midnight(datetime.now(UTC))
    begin = end - timedelta(days=DAYS)
    config = SimulatorConfig(
        venue="coinbase", pairs=(PAIR,), rate=LIVE_RATE, history_s=(DAYS + 2) * DAY_S,
        history_rate=trades / DAYS / DAY_S, faults=Faults(rest_too_many=0.01, retry_after_s=1),
    )  # fmt: skip
    with trial([Market(Simulator(config))], kafka, cassandra) as at:
        simulator = at.markets[0].simulator
        with DagsterDev(at.place) as dagster:
            asked = kills_of(kills, trades // PAGE // (kills + 1), seed)
            fetched(dagster, simulator, "Coinbase~BTC~USD", begin.date(), asked, DONE_S)
        fetched_s = time.monotonic() - begun_s
        requests, again = simulator.tally.requests.total(), check_requests(simulator, trades, kills)
        say(f"month: fetched after {fetched_s:.0f} s, by {requests:,} requests")
        at.command("run", "--no-ui", "--timeout", str(LIVE_S))
        at.command("repair")
        # The pages have the last trade before the month, too.
        traded = [*simulator.trades(SUBSCRIPTION, begin.timestamp() - DAY_S, end.timestamp())]
        first = next(number for number, trade in enumerate(traded) if trade.time_s >= begin.timestamp())
        at.check_candles([traded[first - 1 :]], end)
        with connect(cassandra_of(at.place)) as session:
            session.set_keyspace(at.place.env["CASSANDRA_KEYSPACE"])
            rows = [row for row in hours.since(session, EPOCH) if begin <= row.hour < end]
        assert Counter((row.verdict, row.gaps) for row in rows) == {(REPAIRED, 0): DAYS * 24}, rows
        return {
            "trades": len(traded) - first,
            REPAIRED: len(rows),
            "exact minutes": at.exact_minutes(begin, end),
            "requests": requests,
            "requests made again": again,
            "seconds of the backfill": round(fetched_s),
            "seconds": round(time.monotonic() - begun_s),
        }
