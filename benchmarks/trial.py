"""`cryptoflow run` at work for simulated venues, ended and started again; and what has to be true of it afterwards."""

import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.market import HURRY, QUIET_COIN, Market
from benchmarks.topics import Topics, followed
from benchmarks.verdicts import right_verdicts
from cryptoflow.model.trade import Pair, Trade, write_trade
from cryptoflow.model.window import EPOCH, HOUR, utc_hour
from cryptoflow.pipeline.parity import finished_by
from cryptoflow.settings import CassandraSettings, KafkaSettings, home
from cryptoflow.tables import hours
from cryptoflow.tables.connection import connect
from cryptoflow.tables.schema import HourRow, pair_of
from cryptoflow_tests.dagster_dev import awaited, belongings, kill
from cryptoflow_tests.exactness import cassandra as cassandra_of
from cryptoflow_tests.exactness import check_tables
from cryptoflow_tests.exactness import kafka as kafka_of
from cryptoflow_tests.machines import run_first
from cryptoflow_tests.repairing import moment
from cryptoflow_tests.running import Workplace, new_place, services_env
from cryptoflow_tests.truth import true_candles

UP_S, END_S, COMMAND_S, WHOLE_S = 600.0, 600.0, 3600.0, 3600.0
"""How long the first socket of a run, its end, a command, and the last trade that is filled in are waited for: also on
a machine that has much else to do."""


class Trial:
    """Venues and a run; made by `trial`.

    Attributes:
        until_s: the exchange time up to which the topics have all trades.
        trades_per_s: how many the markets have made up to then, in a second of ours.
    """

    def __init__(self, place: Workplace, markets: Sequence[Market], topics: Topics) -> None:
        self.place, self.markets, self.topics = place, markets, topics
        self.until_s = self.trades_per_s = 0.0
        self._output = place.folder / "run.log"
        self._process: subprocess.Popen[str] | None = None

    # The run

    def start(self) -> None:
        """Start the run, as far as to a socket of each venue."""
        before = [market.simulator.connects for market in self.markets]
        with self._output.open("ab") as output:
            self._process = self.place.process("cryptoflow", "run", "--no-ui", "--timeout", "0", output=output.fileno())

        def connected() -> bool:
            self.check_alive()
            return all(
                market.simulator.connects > connects for market, connects in zip(self.markets, before, strict=True)
            )

        awaited(connected, "a socket of each venue", UP_S)

    def check_alive(self) -> None:
        """See that the run goes on."""
        assert self._process is not None
        assert self._process.poll() is None, self._said()

    def _said(self) -> str:
        return self._output.read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        """SIGKILL to the run and all that belongs to it."""
        assert self._process is not None
        self._process.kill()
        while family := belongings(self.place.env["DAGSTER_HOME"]):
            kill(family)
            time.sleep(0.1)
        self._process.wait()

    def end(self) -> None:
        """Ctrl-C: it drains, and ends well."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(END_S) == 0, self._said()

    def close(self) -> None:
        """Leave nothing at work."""
        if self._process:
            self.kill()

    def command(self, *arguments: str) -> str:
        """What a command of cryptoflow says."""
        done = self.place.run("cryptoflow", *arguments, timeout_s=COMMAND_S)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    # What it has to have

    def await_whole(self) -> float:
        """Wait until the topics have all trades from before now; how long that took, in s."""
        begun_s, self.until_s = time.monotonic(), min(market.now_s for market in self.markets)
        busy = self._busy()

        def come() -> bool:
            self.check_alive()
            self.topics.read()
            return all(self.topics.newest_s[pair] > self.until_s for pair in busy)

        awaited(come, "trades of each busy pair", UP_S)
        ends = self.topics.ends()
        self.trades_per_s = sum(map(len, ends.values())) / max(market.lived_s for market in self.markets)

        def whole() -> bool:
            self.check_alive()
            self.topics.read()
            return all(self.topics.holes(pair, ids.stop) == self._planted(pair, ids) for pair, ids in ends.items())

        awaited(whole, "all trades in the topics", WHOLE_S)
        return time.monotonic() - begun_s

    def _busy(self) -> list[Pair]:
        return [pair for market in self.markets for pair in market.subscriptions if pair[1] != QUIET_COIN]

    def _planted(self, pair: Pair, among: range) -> list[range]:
        """The ids of a pair that no trade has, of those that begin among others."""
        planted = (ids for market in self.markets for ids in market.planted.get(pair, ()))
        return [ids for ids in planted if ids.start in among]

    def verify(self) -> dict[str, int]:
        """Repair what waits for it; then tables, verdicts and parity are right. Gives counts of what was seen.

        All of it for the whole hours that are finished, and of which the topics have all trades.
        """
        self.command("repair")
        with connect(cassandra_of(self.place)) as session:
            session.set_keyspace(self.place.env["CASSANDRA_KEYSPACE"])
            end = utc_hour(min(finished_by(session, kafka_of(self.place)), moment(self.until_s)))
            rows = {(pair_of(row), row.hour): row for row in hours.since(session, EPOCH)}
        traded = dict(self._traded(end.timestamp()))
        self.check_candles(traded.values(), end)
        verdicts = Counter(self._verdicts(traded, rows, end))
        first = utc_hour(moment(max(traded[pair][0].time_s for pair in self._busy()))) + HOUR
        return {"trades": sum(map(len, traded.values())), **verdicts, "exact minutes": self.exact_minutes(first, end)}

    def check_candles(self, traded: Iterable[Iterable[Trade]], end: datetime) -> None:
        """Both tables hold the candles of the trades, of windows before a time, and no others."""
        frames = (write_trade(trade) for trades in traded for trade in trades)
        check_tables(self.place, true_candles(frames), end.timestamp())

    def _traded(self, end_s: float) -> Iterator[tuple[Pair, list[Trade]]]:
        """What each pair has traded before a time, if anything, from its first trade in the topics to the last one."""
        ends = self.topics.ends()
        for market in self.markets:
            for pair, subscription in market.subscriptions.items():
                traded = market.simulator.trades(subscription, market.known_from_s(pair), end_s)
                if trades := [trade for trade in traded if int(trade.id) in ends.get(pair, ())]:
                    yield pair, trades

    def _verdicts(
        self, traded: Mapping[Pair, Sequence[Trade]], rows: Mapping[tuple[Pair, datetime], HourRow], end: datetime
    ) -> Iterator[str]:
        """Of each hour the verdict, which is right."""
        for pair, trades in traded.items():
            ids = self.topics.ends()[pair]
            goes_on = int(trades[-1].id) + 1 < ids.stop
            right = right_verdicts(trades, self.topics.live[pair], self._planted(pair, ids), end, goes_on=goes_on)
            for hour, (verdicts, missing) in right.items():
                row = rows[pair, hour]
                assert (row.verdict in verdicts, row.gaps) == (True, missing), (row, verdicts, missing)
                yield row.verdict

    def exact_minutes(self, start: datetime, end: datetime) -> int:
        """How many minutes the venues' own candles agree on: all that there are."""
        said = self.command("parity", "--from", start.isoformat(), "--to", end.isoformat())
        [line] = [line for line in said.splitlines() if line.startswith("| all |")]
        exact, *others = (int(text.replace(",", "")) for text in line.split("|")[4:8])
        minutes = (end - start) // timedelta(minutes=1) * sum(len(market.subscriptions) for market in self.markets)
        assert (exact, others) == (minutes, [0, 0, 0]), said
        return exact


@contextmanager
def trial(markets: Sequence[Market], kafka: KafkaSettings, cassandra: CassandraSettings) -> Iterator[Trial]:
    """The markets, and a place for a run that is pointed at them; nothing of either is left after the block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cryptoflow-faults-")))
        place = new_place(folder, home(), **services_env(kafka.bootstrap_servers, cassandra.port))
        for market in markets:
            stack.enter_context(market)
            place.env[f"{market.venue.upper()}_URL"] = market.simulator.url
            place.env[f"{market.venue.upper()}_REST_URL"] = market.simulator.rest_url
        place.env["CRYPTOFLOW_SOURCE"] = ",".join(market.venue for market in markets)
        place.env["CRYPTOFLOW_SUBSCRIPTIONS"] = ",".join(
            subscription for market in markets for subscription in market.subscriptions.values()
        )
        hurry(place, markets)
        topics = stack.enter_context(followed(kafka_of(place)))
        made = Trial(place, markets, topics)
        stack.callback(made.close)
        yield made


def hurry(place: Workplace, markets: Sequence[Market]) -> None:
    """Have the place's programs ask a venue as often as it lets them."""
    factors = {each.venue: each.simulator.config.limit_factor for each in markets}
    if any(factor != 1 for factor in factors.values()):
        run_first(place, HURRY.format(factors=factors))
