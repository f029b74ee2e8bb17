"""Laws of how often a candle that forms is handed out: not for most of the time, and the newest state always comes."""

import asyncio
import json
import time
from itertools import pairwise

from cryptoflow.model.window import window_start_ns
from cryptoflow.settings import CassandraSettings, SparkSettings
from cryptoflow.tables.reader import Series
from cryptoflow.web.events import Hub
from cryptoflow.web.live import PUBLISH_EVERY_S, PUBLISH_SHARE, Live
from cryptoflow.web.store import Store
from cryptoflow.web.tail import Received
from cryptoflow_tests.watching import BTC, a_trade

SECONDS = 0.6
TURN_S = 0.02
"""What a viewer takes of the loop for each candle."""


async def told(turn_s: float) -> tuple[list[tuple[float, int]], int]:
    """When a viewer was told of how many trades, and how many there were, a thousand a second."""
    loop, hub = asyncio.get_running_loop(), Hub("e", time.monotonic, keep_s=10.0, heartbeat_s=5.0)
    live = Live(hub, Store(CassandraSettings()), SparkSettings(), "topic")
    viewer, found, trades = hub.watch([Series(*BTC, 60)]), [], 0

    async def look() -> None:
        async for message in viewer.messages():
            found.append((loop.time(), int(json.loads(message.partition(b"data: ")[2])["trades"])))
            time.sleep(turn_s)

    looking, until_s = asyncio.create_task(look()), loop.time() + SECONDS
    at_ns = window_start_ns(time.time_ns(), 60)
    while loop.time() < until_s:
        trades += 1
        await live.take([Received(a_trade(trades, 100.0, BTC, at_ns + trades), at_ns // 10**6 + 1)])
        await asyncio.sleep(0.001)
    async with asyncio.timeout(5):
        while not found or found[-1][1] < trades:
            await asyncio.sleep(0.001)
    looking.cancel()
    return found, trades


def pauses(found: list[tuple[float, int]]) -> list[float]:
    return [later - earlier for (earlier, _), (later, _) in pairwise(found)]


def test_a_candle_is_handed_out_for_a_third_of_the_time_at_most_and_the_last_state_comes() -> None:
    found, trades = asyncio.run(told(TURN_S))
    assert len(found) > 3
    assert min(pauses(found)) >= PUBLISH_SHARE * TURN_S - 1e-6
    assert found[-1][1] == trades


def test_trades_that_come_faster_than_an_eye_follows_come_together() -> None:
    found, trades = asyncio.run(told(0.0))
    assert 3 < len(found) <= SECONDS / PUBLISH_EVERY_S + 2
    assert found[-1][1] == trades
