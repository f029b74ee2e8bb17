"""Our candles against the venues' own, minute by minute, for finished windows."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from cassandra.cluster import Session

from cryptoflow.errors import ConfigError, FeedError
from cryptoflow.feeds.rest import Rest
from cryptoflow.kafka_io.records import topic_id
from cryptoflow.model.candle import CandleRow
from cryptoflow.model.parity import MINUTE_S, Bar, Compared, Parity, Share, compared, share_of
from cryptoflow.model.trade import Pair
from cryptoflow.model.window import EPOCH, utc_hour, utc_midnight
from cryptoflow.settings import FeedSettings, KafkaSettings
from cryptoflow.tables import progress, reader
from cryptoflow.tables.progress import Place
from cryptoflow.tables.schema import pair_of
from cryptoflow.venues import VENUES
from cryptoflow.venues.reading import subscribed_pairs

SHOWN = 20
"""Minutes of a day and pair that are named, at most."""

NO_MINUTES = (
    "The venues' candles are of one minute, and those here of {window_s} s (CRYPTOFLOW_WINDOW): they can't be compared."
)

RestOf = Callable[[str], Rest]
"""Gives the REST of a venue by its name."""


class DayOfPair(NamedTuple):
    """What came out for the minutes of a pair, on a UTC day or a part of it."""

    day: date
    pair: Pair
    minutes: list[Compared]
    why: str = ""
    """Why the venue could not be asked."""

    @property
    def share(self) -> Share:
        """How many minutes came out how."""
        return share_of(self.minutes)


def finished_by(session: Session, kafka: KafkaSettings) -> datetime:
    """By when the one-minute windows of the topic are finished; the epoch: none is."""
    at = progress.read(session, Place(MINUTE_S, kafka.topic, topic_id(kafka)))
    return at.finished if at else EPOCH


def pairs_of(feed: FeedSettings, market: str | None = None, coins: tuple[str, str] | None = None) -> dict[Pair, str]:
    """The subscribed pairs of the source's venues, of a market and coins if these are named, each with its venue."""
    venues = {VENUES[name].market: name for name in feed.venues}
    pairs = dict.fromkeys(subscribed_pairs(feed.subscription_list))
    return {
        pair: venues[pair[0]]
        for pair in pairs
        if pair[0] in venues and market in (None, pair[0]) and coins in (None, pair[1:])
    }


def compare(
    session: Session,
    finished: datetime,
    pairs: Mapping[Pair, str],
    rest_of: RestOf,
    start: datetime,
    end: datetime,
) -> Iterator[DayOfPair]:
    """Compare the minutes of a stretch of time, day by day and pair by pair; ends early where the REST is to stop.

    Args:
        finished: windows that end by then are.
        pairs: each with its venue's name.
        start, end: aware UTC, whole minutes.

    Raises:
        CassandraError: there are no tables, or they can't be read.
    """
    waiting = {(mark.hour, pair_of(mark)) for mark in reader.marks(session)}
    rests = {name: rest_of(name) for name in sorted(set(pairs.values()))}
    while start < end:
        until = min(end, utc_midnight(start) + timedelta(days=1))
        told = told_by(rests, pairs, start, until)
        rows = reader.candle_rows(session, MINUTE_S, start, until)
        for pair in pairs:
            ours = {row.window_start: row for row in rows if pair_of(row) == pair}
            theirs, why = told[pair]
            if theirs is None:
                return
            marked = {hour for hour, each in waiting if each == pair}
            minutes = [
                _minute(moment, ours.get(moment), theirs.get(moment), finished, marked)
                for moment in _minutes(start, until)
            ]
            yield DayOfPair(start.date(), pair, minutes, why)
        start = until


Told = tuple[dict[datetime, Bar] | None, str]
"""A venue's candles of a pair by their minutes, and why there are none; None: it was told to stop."""


def told_by(rests: Mapping[str, Rest], pairs: Mapping[Pair, str], start: datetime, end: datetime) -> dict[Pair, Told]:
    """What the venues tell, by pair. They are asked side by side: each keeps a pace of its own."""

    def of_venue(name: str) -> dict[Pair, Told]:
        return {pair: _told(rests[name], pair, start, end) for pair, venue in pairs.items() if venue == name}

    with ThreadPoolExecutor(len(rests)) as pool:
        try:
            return {pair: told for found in pool.map(of_venue, rests) for pair, told in found.items()}
        except BaseException:
            for rest in rests.values():
                rest.stop.set()  # else they were waited for
            raise


def _told(rest: Rest, pair: Pair, start: datetime, end: datetime) -> Told:
    venue, found = rest.venue, dict[datetime, Bar]()
    if not venue.most_bars:
        return found, f"{venue.name} is not asked for candles"
    length = timedelta(minutes=venue.most_bars)
    try:
        while start < end:
            until = min(end, start + length)
            target = venue.bars_target(pair, _seconds(start), _seconds(until))
            bars = rest.ask(target, venue.read_bars)
            if bars is None:
                return None, ""
            if not venue.tells_empty_bars:
                found |= {moment: _empty(moment) for moment in _minutes(start, until)}
            times = {EPOCH + timedelta(seconds=bar.start_s): bar for bar in bars}
            found |= {moment: bar for moment, bar in times.items() if start <= moment < until}
            start = until
    except FeedError as error:
        return found, str(error).rstrip(".")
    return found, ""


def _minute(
    moment: datetime, ours: CandleRow | None, theirs: Bar | None, finished: datetime, marked: set[datetime]
) -> Compared:
    start_s = _seconds(moment)
    if moment + timedelta(seconds=MINUTE_S) > finished:
        return Compared(start_s, Parity.PENDING)
    if theirs is None:
        return Compared(start_s, Parity.NONE)
    found = compared(start_s, ours, theirs)
    waits = found.parity is Parity.OFF and utc_hour(moment) in marked
    return found._replace(parity=Parity.PENDING) if waits else found


def _minutes(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += timedelta(seconds=MINUTE_S)


def _seconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(seconds=1)


def _empty(moment: datetime) -> Bar:
    nothing = Decimal()
    return Bar(_seconds(moment), nothing, nothing, nothing, nothing, nothing, trades=0)


def refuse_other_windows(window_s: int) -> None:
    """Raise a ConfigError if the candles are not of one minute."""
    if window_s != MINUTE_S:
        raise ConfigError(NO_MINUTES.format(window_s=window_s))


def total(days: list[DayOfPair]) -> Share:
    """The counts of all."""
    return share_of(minute for day in days for minute in day.minutes)


def report(days: list[DayOfPair]) -> str:
    """What came out, in Markdown: a line for each day and pair, and the minutes that are off."""
    lines = [
        "| day (UTC) | market | pair | exact | off | pending | none | exact of compared |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for day in days:
        share = day.share
        counts = " | ".join(f"{number:,}" for number in share)
        lines.append(f"| {day.day} | {day.pair[0]} | {'-'.join(day.pair[1:])} | {counts} | {share.text} |")
    whole = total(days)
    lines.append(f"| all | | | {' | '.join(f'{number:,}' for number in whole)} | {whole.text} |")
    notes = [note for day in days for note in _notes(day)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _notes(day: DayOfPair) -> Iterator[str]:
    name = f"{day.pair[0]} {'-'.join(day.pair[1:])}"
    if day.why:
        yield f"- {day.day} {name}: {day.why}."
    off = [minute for minute in day.minutes if minute.parity is Parity.OFF]
    for minute in off[:SHOWN]:
        yield f"- {EPOCH + timedelta(seconds=minute.start_s):%Y-%m-%d %H:%M} {name}: {minute}"
    if len(off) > SHOWN:
        yield f"- {day.day} {name}: {len(off) - SHOWN:,} more minutes are off"
