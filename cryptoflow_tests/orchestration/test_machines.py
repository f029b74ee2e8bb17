"""Two machines with homes of their own and clocks an hour apart, that share a feed, a Kafka and a Cassandra.

first    |-- works -----------|  stands still  . . . . . . |writes late|-- ends
second          |-- refused       |-- takes over, works ----------------------- Ctrl-C
"""

import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from cassandra.cluster import Session

from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.records import topic_id
from cryptoflow.runtime.holder import Holder
from cryptoflow.tables import lease, progress
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.progress import Place
from cryptoflow.tables.reader import totals
from cryptoflow.testing import Simulator, SimulatorConfig
from cryptoflow_tests.cable import Cable, SlowCable
from cryptoflow_tests.dagster_dev import awaited
from cryptoflow_tests.exactness import cassandra, check_tables, kafka, read_candles
from cryptoflow_tests.machines import Machine, set_clock, why_not
from cryptoflow_tests.orchestration.deaths import SUBSCRIPTIONS
from cryptoflow_tests.running import Workplace, new_place, services_env
from cryptoflow_tests.topics import read_topic
from cryptoflow_tests.truth import Key, true_candles

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

HOUR_S, WINDOW_S = 3600, 60
PATIENCE_S = 120.0
RATE, SPEED = 100, 6
"""Of the feed: a window of its own time passes in ten seconds."""

OLD_S = 6 * HOUR_S
"""How old its trades are: none is ahead of any of the clocks."""

WATERMARK_S = HOUR_S
"""Above what passes in the feed's time while a machine stands still: none of what that still brings is late."""

RUN = ("cryptoflow", "run", "--no-ui", "--timeout", "0")
RUN_ID = r"[-0-9a-f]{36}"

Candles = dict[Key, Any]


class Ended(NamedTuple):
    """What became of a command."""

    code: int
    said: str

    @property
    def run_id(self) -> str:
        """Of the run that it launched."""
        return str(re.findall(RUN_ID, self.said)[0])


class Story(NamedTuple):
    """What happened."""

    refused: Ended
    first: Ended
    second: Ended
    before: Candles
    """Of the windows that only the first one's late writes are of: without them."""
    after: Candles
    """The same with them."""
    alone: list[bytes]
    """What the feed sent while only the second one was there."""


class Stage:
    """The feed, the services, and two places to work in: one for each machine."""

    def __init__(self, simulator: Simulator, session: Session, places: dict[str, Workplace]) -> None:
        self.simulator, self.session, self.places = simulator, session, places
        self.kafka = kafka(places["first"])

    def boot(self, name: str) -> Machine:
        """A machine with a whole run."""
        place = self.places[name]
        cables: dict[int, type[Cable]] = {
            int(self.kafka.bootstrap_servers.rpartition(":")[2]): Cable,
            int(re.findall(r":(\d+)/", self.simulator.url)[0]): Cable,
            int(place.env["CASSANDRA_PORT"]): SlowCable,
        }
        return Machine(place, name, cables, *RUN)

    def holder(self) -> str:
        """The host that aggregates."""
        row = lease.read(self.session, lease.AGGREGATE)
        return msgspec.json.decode(row.holder, type=Holder).host if row and row.holder else ""

    def candles(self, before_s: float = math.inf) -> Candles:
        """Those of windows that begin before then."""
        return {key: row for key, row in read_candles(self.session).items() if key[-1] < before_s}

    def newest_s(self) -> int:
        """The start of the newest window."""
        return max((start_s for *_, start_s in self.candles()), default=0)

    def await_work(self) -> None:
        """Wait until what is in the topic now is in the tables."""
        ends, place = end_offsets(self.kafka, self.kafka.topic), Place(60, self.kafka.topic, topic_id(self.kafka))

        def worked() -> bool:
            done = progress.read(self.session, place)
            return bool(done and all(done.offsets.get(each, 0) >= end for each, end in ends.items()))

        awaited(worked, "the topic in the tables", PATIENCE_S)


def ended(machine: Machine) -> Ended:
    return Ended(machine.wait(PATIENCE_S), machine.output())


@pytest.fixture(scope="module")
def stage(
    tmp_path_factory: pytest.TempPathFactory, jars_home: Path, kafka_bootstrap: str, cassandra_port: int
) -> Iterator[Stage]:
    config = SimulatorConfig(
        rate=RATE, start_time_s=time.time() - OLD_S, time_step_s=SPEED / RATE, record=True, other_flags_share=0.2
    )
    services = services_env(kafka_bootstrap, cassandra_port)
    places = {name: new_place(tmp_path_factory.mktemp(name), jars_home, **services) for name in ("first", "second")}
    set_clock(places["second"], -HOUR_S)
    with Simulator(config) as simulator, connect(cassandra(places["first"])) as session:
        ensure_schema(session, cassandra(places["first"]))
        for place in places.values():
            place.env |= {
                "CRYPTOFLOW_SOURCE": "cryptocompare",
                "CRYPTOCOMPARE_URL": simulator.url,
                "CRYPTOCOMPARE_API_KEY": "any",
                "CRYPTOCOMPARE_SUBSCRIPTIONS": SUBSCRIPTIONS,
                "CRYPTOFLOW_WATERMARK": str(WATERMARK_S),
            }
        yield Stage(simulator, session, places)


@pytest.fixture(scope="module")
def story(stage: Stage) -> Story:
    with stage.boot("first") as first:
        awaited(lambda: stage.holder() == "first" and stage.simulator.sent.trades, "the first with leases", PATIENCE_S)
        with stage.boot("second") as second:
            refused = ended(second)
        awaited(stage.candles, "candles of the first", PATIENCE_S)
        to_cassandra = first.cables[cassandra(first.place).port]
        assert isinstance(to_cassandra, SlowCable)
        to_cassandra.keep_back()
        awaited(to_cassandra.keeps, "a write of candles", PATIENCE_S)
        first.stand_still()
        until_s = stage.newest_s() + 2 * WINDOW_S
        with stage.boot("second") as second:
            awaited(lambda: stage.newest_s() > until_s, "candles of the second", PATIENCE_S)
            stage.await_work()
            before = stage.candles(until_s)
            to_cassandra.bring()
            awaited(to_cassandra.answered, "the late writes", PATIENCE_S)
            after = stage.candles(until_s)
            first.go_on()
            first_ended = ended(first)
            sent = len(stage.simulator.sent_frames())
            awaited(lambda: len(stage.simulator.sent_frames()) > sent + RATE, "more of the feed", PATIENCE_S)
            alone = stage.simulator.sent_frames()[sent:]
            second.interrupt()
            return Story(refused, first_ended, ended(second), before, after, alone)


def test_the_second_is_refused_with_the_run_the_host_and_the_home_of_the_first(stage: Stage, story: Story) -> None:
    home = stage.places["first"].env["CRYPTOFLOW_HOME"]
    who = f"already, {story.first.run_id} on first, home {home}: terminate that one first."
    assert story.refused.code == 1
    assert story.refused.said.splitlines()[-1].endswith(who)


def test_the_first_ends_when_it_goes_on_and_says_who_has_taken_over(stage: Stage, story: Story) -> None:
    home = stage.places["second"].env["CRYPTOFLOW_HOME"]
    who = f"taken over by {story.second.run_id} on second, home {home}"
    assert story.first.code == 1
    assert who in story.first.said.splitlines()[-1]


def test_nothing_that_the_first_still_writes_is_left(story: Story) -> None:
    assert story.before
    assert story.after == story.before


def test_the_second_ends_cleanly_with_all_trades_in_the_tables_once(stage: Stage, story: Story) -> None:
    assert story.second.code == 0, story.second.said
    records = [record.value for record in read_topic(stage.kafka, stage.kafka.topic)]
    check_tables(stage.places["second"], true_candles(records))
    assert set(records) <= set(stage.simulator.sent_frames())
    assert set(story.alone) <= set(records)
    counted = totals(stage.session)
    assert (counted.input_rows, counted.late, counted.unreadable) == (len(records), 0, 0)


def test_the_clock_of_the_second_is_an_hour_behind_and_its_rows_are_newer_all_the_same(
    stage: Stage, story: Story
) -> None:
    alone = set(story.alone)
    received_s = [
        record.timestamp / 1000 for record in read_topic(stage.kafka, stage.kafka.topic) if record.value in alone
    ]
    written_us = [row[0] for row in stage.session.execute("SELECT writetime(close) FROM candles")]
    assert max(received_s) < time.time() - HOUR_S
    assert min(written_us) / 1e6 > time.time() - HOUR_S
