"""`python -m benchmarks.faults`: faults at full size, until each promise about them was seen true.

- `venues`: each venue by itself under 1,000 trades/s, a hundredth of its frames lost, its sockets cut 20 times, the run
  killed and started again, and ended and started again after five minutes.
- `refusal`: three venues at once, one of which refuses everything for ten minutes.
- `month`: a month of a pair's past by a backfill of Dagster's that is killed five times.
- `checkpoints`: deleted, truncated and old checkpoints under a stream of 2,000 trades/s, five times each.

A part that is not right ends it with the reason. What is right is printed as a table, and kept with its sizes in the
file of results: however busy the machine was, as promises count here and not times.
"""

import argparse
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from rich.table import Table

from benchmarks.deaths import survived
from benchmarks.market import CONNECT_S, market
from benchmarks.month import month
from benchmarks.results import circumstances, keep
from benchmarks.services import services
from benchmarks.trial import Trial, trial
from cryptoflow.render import new_console
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.simulator.config import VenueName
from cryptoflow.venues import VENUES as REAL_VENUES
from cryptoflow_tests.orchestration.deaths import DAMAGES

VENUES: tuple[VenueName, ...] = ("coinbase", "binance", "kraken")

LIVES = 3
"""Of a venue's run: two restarts."""

PLANTED = 7
"""Ids in a hole that nothing can fill."""

TOO_SLOW = "slow"
"""What a client was dropped for that does not read in time, as on a busy machine: no limit of the venue's."""

Stores = tuple[KafkaSettings, CassandraSettings]
Result = dict[str, float]
Say = Callable[[str], None]
Work = Callable[[argparse.Namespace, Stores, Say], Result]


def of_venue(venue: VenueName, given: argparse.Namespace, stores: Stores, say: Say) -> Result:
    """Cut a venue's sockets in each of three lives of a run, the second of which ends for a while."""
    rng, begun_s = random.Random(f"{given.seed} {venue}"), time.monotonic()
    factor = factor_of(venue, given, say)
    with trial([market(venue, given.trades_per_s, given.speed, factor, lost=given.lost)], *stores) as at:
        for life in range(LIVES):
            at.start()
            cuts = given.cuts * (life + 1) // LIVES - given.cuts * life // LIVES
            cut(at, cuts, given.life_s, rng, plant=life == 1)
            say(f"{venue}: life {life + 1} of {LIVES} is over after {time.monotonic() - begun_s:.0f} s")
            if life == 0:
                at.kill()
            elif life == 1:
                at.end()
                time.sleep(given.absence_s)
        whole_s = at.await_whole()
        say(f"{venue}: all trades are in the topics {whole_s:.0f} s later")
        at.end()
        return figures(at, begun_s, whole_s)


def factor_of(venue: VenueName, given: argparse.Namespace, say: Say) -> float:
    """How many times as often as the real venue lets its REST is asked, which is told where it is."""
    factor: float = given.kraken_factor if venue == "kraken" else 1.0
    if factor != 1:
        interval_s = REAL_VENUES[venue].limits.rest_interval_s
        say(f"{venue}: REST is asked {factor:g} times as often as the real one allows: a page in {interval_s:g} s")
    return factor


def cut(at: Trial, times: int, within_s: float, rng: random.Random, plant: bool) -> None:
    """Cut the sockets of the only market at random moments, and plant a hole in between."""
    [only], begun_s = at.markets, time.monotonic()
    for number, after_s in enumerate(sorted(rng.uniform(0, within_s) for _ in range(times))):
        time.sleep(max(0.0, begun_s + after_s - time.monotonic()))
        only.cut()
        if plant and number == times // 2:
            only.plant(PLANTED)
    time.sleep(max(0.0, begun_s + within_s - time.monotonic()))
    at.check_alive()


def refusal(given: argparse.Namespace, stores: Stores, say: Say) -> Result:
    """Have one of three venues refuse everything for a while; the others lose nothing by it."""
    begun_s, rate = time.monotonic(), given.trades_per_s / len(VENUES)
    markets = [market(venue, rate, given.speed, factor_of(venue, given, say)) for venue in VENUES]
    with trial(markets, *stores) as at:
        at.start()
        time.sleep(given.life_s)
        *others, refusing = at.markets
        before = refusing.simulator.connects
        refusing.simulator.refuse(given.outage_s)
        time.sleep(given.outage_s)
        refusing.simulator.wait_until(lambda: refusing.simulator.connects > before, CONNECT_S)
        say(f"{refusing.venue} is back after {given.outage_s:g} s")
        whole_s = at.await_whole()
        at.end()
        for pair in (pair for other in others for pair in other.subscriptions):
            assert len(at.topics.live[pair].stretches) == 1, at.topics.live[pair].stretches
            assert at.topics.all[pair].stretches == at.topics.live[pair].stretches
        assert [other.simulator.connects for other in others] == [1] * len(others)
        return figures(at, begun_s, whole_s)


def past(given: argparse.Namespace, stores: Stores, say: Say) -> Result:
    """A month of a pair's past."""
    return month(given.month_trades, given.kills, given.seed, *stores, say)


def checkpoints(given: argparse.Namespace, stores: Stores, say: Say) -> Result:
    """What befalls the checkpoints of a stream."""
    deaths, outcome = survived([*DAMAGES], given.times, given.stream_trades_per_s, given.seed, *stores, say)
    return {
        "trades": outcome.trades,
        "deaths": len(deaths),
        "late": outcome.late,
        "longest s until all streams again": round(max(death.live_s for death in deaths), 1),
    }


def figures(at: Trial, begun_s: float, whole_s: float) -> Result:
    """What has been seen, after all that has to be right was."""
    verified, tallies = at.verify(), [each.simulator.tally for each in at.markets]
    for tally in tallies:
        assert tally.broken.keys() <= {TOO_SLOW}, tally
    return {
        **verified,
        "trades/s": round(at.trades_per_s),
        "filled": at.topics.filled,
        "requests": sum(tally.requests.total() for tally in tallies),
        "sockets": sum(each.simulator.connects for each in at.markets),
        "dropped as too slow": sum(tally.broken[TOO_SLOW] for tally in tallies),
        "whole after s": round(whole_s),
        "seconds": round(time.monotonic() - begun_s),
    }


def table_of(results: dict[str, Result]) -> Table:
    """A column for each part."""
    table = Table("", *results)
    for name in dict.fromkeys(name for result in results.values() for name in result):
        table.add_row(name, *(f"{result[name]:,}" if name in result else "" for result in results.values()))
    return table


def main() -> None:
    """Do what is asked for, and print what has been seen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated")
    parser.add_argument("--venue", choices=VENUES, action="append", help="of the part `venues`; may be repeated")
    parser.add_argument("--trades-per-s", type=float, default=1_000, help="of all venues together")
    parser.add_argument("--lost", type=float, default=0.01, help="share of the frames that a venue loses")
    parser.add_argument("--speed", type=float, default=30, help="seconds of a market in one of ours")
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--life-s", type=float, default=90, help="of each life of a run, in our seconds")
    parser.add_argument("--absence-s", type=float, default=300, help="between the second life and the third")
    parser.add_argument("--outage-s", type=float, default=600, help="for how long a venue refuses")
    parser.add_argument("--kraken-factor", type=float, default=10, help="how many times as fast Kraken's REST is asked")
    parser.add_argument("--month-trades", type=int, default=1_000_000, help="of the month, about")
    parser.add_argument("--kills", type=int, default=5, help="of the month's backfill")
    parser.add_argument("--times", type=int, default=5, help="that each damage is done to the checkpoints")
    parser.add_argument("--stream-trades-per-s", type=float, default=2_000, help="while the checkpoints are damaged")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended on request."))  # all is cleaned up then, as after Ctrl-C
    console, results = new_console(), dict[str, Result]()
    works = {name: work for part in given.only or PARTS for name, work in PARTS[part](given).items()}
    sizes = {name: value for name, value in vars(given).items() if name not in ("only", "venue")}
    for name, work in works.items():
        with circumstances() as told, services() as stores:
            results[name] = work(given, stores, partial(console.print, highlight=False))
        keep(f"faults_{name}", told | {"sizes": sizes} | results[name])
        console.print(f"{name}: as it has to be.")
    console.print(table_of(results))


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Work]]] = {
    "venues": lambda given: {venue: partial(of_venue, venue) for venue in given.venue or VENUES},
    "refusal": lambda _: {"refusal": refusal},
    "month": lambda _: {"month": past},
    "checkpoints": lambda _: {"checkpoints": checkpoints},
}


if __name__ == "__main__":
    main()
