"""Laws of the events: the newest state of each key, in order, for whoever reconnects; and never more than that."""

import asyncio
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from cryptoflow.tables.reader import Series
from cryptoflow.web.events import HEARTBEAT, KEPT_EVENTS, RESET, Hub, Viewer

ONE, OTHER = Series("Kraken", "BTC", "USD", 60), Series("Coinbase", "BTC", "USD", 60)

happenings = st.lists(st.tuples(st.sampled_from([ONE, OTHER]), st.integers(0, 5)), max_size=40)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def a_hub(clock: Clock | None = None, heartbeat_s: float = 5.0) -> Hub:
    return Hub("e", clock or Clock(), keep_s=10.0, heartbeat_s=heartbeat_s)


def received(viewer: Viewer) -> list[tuple[str, str, str]]:
    """(id, kind, data) of all that waits for a viewer, at once."""

    async def first() -> bytes:
        async for message in viewer.messages():
            return message
        return b""

    text = asyncio.run(first())
    if text == HEARTBEAT:
        return []
    parts = [dict(line.split(": ", 1) for line in each.split("\n")) for each in text.decode().strip().split("\n\n")]
    return [(each["id"], each["event"], each["data"]) for each in parts]


def publish(hub: Hub, happened: Sequence[tuple[Series, int]], first: int = 0) -> None:
    for number, (series, key) in enumerate(happened, first):
        hub.publish(series, "candle", key, b"%d" % number)


def newest(happened: Sequence[tuple[Series, int]], watched: Sequence[Series], first: int = 0) -> list[str]:
    """What was published last of each key, in order."""
    last = {(series, key): number for number, (series, key) in enumerate(happened, first) if series in watched}
    return [str(number) for number in sorted(last.values())]


@given(happenings, happenings, st.sampled_from([(ONE,), (OTHER,), (ONE, OTHER)]))
def test_who_comes_back_gets_the_newest_of_all_that_changed_meanwhile(
    before: list[tuple[Series, int]], missed: list[tuple[Series, int]], watched: tuple[Series, ...]
) -> None:
    hub = a_hub(heartbeat_s=0.001)
    first = hub.watch(watched)
    publish(hub, before)
    seen = received(first)
    hub.leave(first)
    publish(hub, missed, len(before))
    again = received(hub.watch(watched, seen[-1][0] if seen else None))
    assert [data for _, _, data in seen] == newest(before, watched)
    assert [data for _, _, data in again] == newest(missed, watched, len(before))


@given(happenings)
def test_what_waits_for_a_viewer_is_one_event_of_each_key(happened: list[tuple[Series, int]]) -> None:
    hub = a_hub(heartbeat_s=0.001)
    viewer = hub.watch([ONE, OTHER])
    publish(hub, happened)
    got = received(viewer)
    assert [data for _, _, data in got] == newest(happened, [ONE, OTHER])
    numbers = [int(id.rpartition("-")[2]) for id, _, _ in got]
    assert numbers == sorted(numbers)


def test_who_missed_more_than_is_kept_is_told_to_load_anew() -> None:
    hub = a_hub()
    viewer = hub.watch([ONE])
    publish(hub, [(ONE, 0)])
    [(id, _, _)] = received(viewer)
    publish(hub, [(ONE, key) for key in range(KEPT_EVENTS + 2)])
    kinds = [kind for _, kind, _ in received(hub.watch([ONE], id))]
    assert kinds == ["reset"] + ["candle"] * KEPT_EVENTS


def test_a_channel_outlives_its_last_viewer_for_a_while() -> None:
    clock = Clock()
    hub = a_hub(clock)
    hub.leave(hub.watch([ONE]))
    clock.now_s = 9.0
    assert hub.watched() == [ONE]
    clock.now_s = 11.0
    assert hub.watched() == []


def test_who_comes_back_to_a_channel_that_was_closed_is_told_to_load_anew() -> None:
    clock = Clock()
    hub = a_hub(clock)
    viewer = hub.watch([ONE])
    publish(hub, [(ONE, 0)])
    [(id, _, _)] = received(viewer)
    other = hub.watch([OTHER])
    hub.leave(viewer)
    clock.now_s = 11.0
    hub.watched()
    publish(hub, [(OTHER, 0)])
    assert [kind for _, kind, _ in received(hub.watch([ONE], id))] == ["reset"]
    assert [kind for _, kind, _ in received(other)] == ["candle"]


@given(st.text(max_size=9).filter(lambda text: not text.startswith("e-")))
@example("e-" + "9" * 5000)  # Python makes no number of so many digits
@example("e-²")
def test_an_id_that_no_event_has_had_is_that_of_another_server(last_id: str) -> None:
    hub = a_hub()
    hub.watch([ONE])
    publish(hub, [(ONE, 0)])
    viewer = hub.watch([ONE], last_id)
    assert [kind for _, kind, _ in received(viewer)] == [*[RESET] * bool(last_id), "candle"]


def test_viewers_are_counted_once_however_many_series_they_watch() -> None:
    hub = a_hub()
    viewers = [hub.watch([ONE, OTHER]), hub.watch([ONE])]
    assert hub.viewers == 2
    hub.leave(viewers[0])
    assert hub.viewers == 1


def test_a_quiet_viewer_gets_a_sign_of_life() -> None:
    assert received(a_hub(heartbeat_s=0.001).watch([ONE])) == []
