"""The verdict on an hour of a pair: out of what the log says of it, and of what is known of the hours beside it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from cryptoflow.model import verdict
from cryptoflow.model.trade import Pair
from cryptoflow.model.verdict import LOG_CUT, REPAIRED, Facts, Numbers, Range, Run, holes, joined, missing
from cryptoflow.model.window import HOUR, utc_midnight
from cryptoflow.pipeline.marking import AHEAD, LATE
from cryptoflow.pipeline.place import EMPTY_HOURS
from cryptoflow.pipeline.recompute import Made
from cryptoflow.pipeline.repair_plan import Plan, late_places, with_late
from cryptoflow.tables.hours import ranges_of
from cryptoflow.tables.schema import HourRow, MarkRow


class Beside:
    """What is known of the hours beside one that is repaired.

    Args:
        hour: aware UTC.
        of_day: gives what is known of a pair on a date (UTC midnight).
    """

    def __init__(self, hour: datetime, of_day: Callable[[Pair, datetime], Iterable[HourRow]]) -> None:
        self._hour, self._of_day = hour, of_day
        self._days: dict[tuple[Pair, datetime], dict[datetime, HourRow]] = {}

    def earlier(self, pair: Pair) -> list[HourRow]:
        """The hours before, the nearest first, without a break, up to the first one that has trades."""
        return list(self._away(pair, -HOUR))

    def later(self, pair: Pair) -> list[HourRow]:
        """The hours after, likewise."""
        return list(self._away(pair, HOUR))

    def _away(self, pair: Pair, step: timedelta) -> Iterator[HourRow]:
        for number in range(1, EMPTY_HOURS + 1):
            row = self._row(pair, self._hour + number * step)
            if row is None:
                return
            yield row
            if row.in_candles:
                return

    def _row(self, pair: Pair, hour: datetime) -> HourRow | None:
        day = pair, utc_midnight(hour)
        if day not in self._days:
            self._days[day] = {row.hour: row for row in self._of_day(*day)}
        return self._days[day].get(hour)


def has_trades(rows: Sequence[HourRow]) -> bool:
    """Whether one of the rows that `Beside` gives has trades."""
    return bool(rows and rows[-1].in_candles)


class Finding(msgspec.Struct, frozen=True):
    """What the numbers of an hour's trades tell."""

    numbers: Numbers
    missing: Sequence[Range] = ()
    """None: they prove that the log has all of its trades."""
    numbered: bool = False
    before: int | None = None
    after: int | None = None
    """The numbers of the last trade before the hour, and of the first one after it; None: they are not known."""

    @property
    def proven(self) -> bool:
        """Whether the log has all of its trades, whatever Kafka has deleted."""
        return self.numbered and not self.missing

    @property
    def first(self) -> int | None:
        """The lowest number of the hour's trades."""
        return self.numbers.here[0][0] if self.numbers.here else None

    @property
    def last(self) -> int | None:
        """The highest one."""
        return self.numbers.here[-1][1] if self.numbers.here else None


def find(made: Made, earlier: Sequence[HourRow], later: Sequence[HourRow]) -> Finding:
    """What the numbers tell of an hour.

    Args:
        earlier, later: the hours beside it, as `Beside` gives them.
    """
    if made.trades and not (made.numbered and made.numbers.here):
        return Finding(made.numbers)
    numbers = Numbers(
        made.numbers.here,
        joined([*made.numbers.earlier, *(run for row in earlier for run in known_runs(row))]),
        joined([*made.numbers.later, *(run for row in later for run in known_runs(row))]),
    )
    before = earlier[-1].last_number if has_trades(earlier) else None
    after = later[-1].first_number if has_trades(later) else None
    return Finding(numbers, missing(numbers, before, after), True, before, after)


def known_runs(row: HourRow) -> list[Run]:
    """The numbers of an hour's trades."""
    if row.first_number is None or row.last_number is None:
        return []
    lacking = [(first, last) for first, last in ranges_of(row) if first is not None and last is not None]
    return holes(row.first_number, row.last_number, joined(lacking))


def hour_row(
    pair: Pair,
    plan: Plan,
    finding: Finding,
    known: HourRow | None,
    late: Sequence[MarkRow],
    *,
    trades: int,
    added: int,
    duplicates: int,
    rewritten: int,
    cut: bool,
) -> HourRow:
    """What is known of an hour of a pair after its repair.

    Args:
        known: what was known before.
        late: the marks that were worked off.
        trades: in its candles.
        added: those of them that the candles had not before.
        rewritten: candles that were written or removed.
        cut: whether the log does not provably hold all of its trades.
    """
    too_late = sum(mark.trades for mark in late if mark.reason in (LATE, AHEAD))
    row = HourRow(
        *pair,
        date=utc_midnight(plan.hour),
        hour=plan.hour,
        in_log=trades,
        in_candles=trades,
        duplicates=duplicates,
        late=(known.late if known else 0) + min(added, too_late),
        gaps=0 if cut else verdict.count(finding.missing),
        verdict="",
        reason=LOG_CUT if cut else "",
        repaired_at=datetime.now(UTC),
        stretches=with_late(known, late),
        first_number=finding.first if plan.to_its_end else None,
        last_number=finding.last if plan.to_its_end else None,
        missing=_text(finding.missing) if finding.numbered else None,
        rewritten=_rewritten(known) + rewritten,
        disagreement=known.disagreement if known else None,
    )
    judged = _judged(row, plan.ids[1])
    if plan.to_its_end:
        return judged
    return judged._replace(reason=f"{judged.reason}, until {plan.end:%H:%M}", missing=None)


def _rewritten(known: HourRow | None) -> int:
    """How many candles of an hour repairs have changed; a row of an earlier version does not count them."""
    if known is None:
        return 0
    return int(known.verdict == REPAIRED) if known.rewritten is None else known.rewritten


def _text(ranges: Sequence[Range]) -> str:
    return msgspec.json.encode(verdict.bounded(ranges)).decode()


def disagreed(row: HourRow, said: str, past_id: str) -> HourRow:
    """An hour of which the venue's own candles say something else, or with an empty text no more.

    It is suspect by that until its candles are compared with the log: by the next repair.

    Args:
        past_id: the id of the topic of trades of the past.
    """
    return _judged(row._replace(disagreement=said), past_id, compared=False)


def is_doubted(row: HourRow) -> bool:
    """Whether an hour is suspect by nothing but what the venue's own candles say."""
    return bool(row.disagreement) and row.reason == row.disagreement


def _judged(row: HourRow, past_id: str, *, compared: bool = True) -> HourRow:
    facts = Facts(
        trades=row.in_candles,
        gaps=row.gaps,
        missing=ranges_of(row),
        numbered=row.missing is not None,
        cut=row.reason == LOG_CUT,
        repaired=bool(row.rewritten),
        late=row.late > 0,
        filled=any(topic_id == past_id for topic_id, *_ in late_places(row)),
        disagreement=row.disagreement or "",
        compared=compared,
    )
    said, reason = verdict.verdict(facts)
    return row._replace(verdict=said, reason=reason)


def settled(finding: Finding, earlier: Sequence[HourRow], later: Sequence[HourRow], past_id: str) -> list[HourRow]:
    """The hours beside one of which more is known by what was found in it, judged anew.

    Args:
        past_id: the id of the topic of trades of the past.
    """
    first = finding.after if finding.first is None else finding.first
    last = finding.before if finding.last is None else finding.last
    known = joined(run for runs in finding.numbers for run in runs)
    # Numbers of an hour that go beyond those of this one are not in the order of time: then they set no limit.
    highs = (_limit(first, -1, row.last_number) for row in earlier)
    lows = (_limit(last, 1, row.first_number) for row in later)
    better = [
        *(_settled(row, known, None, high, past_id) for row, high in zip(earlier, highs, strict=True)),
        *(_settled(row, known, low, None, past_id) for row, low in zip(later, lows, strict=True)),
    ]
    return [row for row in better if row]


def _limit(number: int | None, step: int, edge: int | None) -> int | None:
    beyond = number is not None and edge is not None and (edge - number) * step <= 0
    return None if number is None or beyond else number + step


def _settled(row: HourRow, known: Sequence[Run], low: int | None, high: int | None, past_id: str) -> HourRow | None:
    before = ranges_of(row)
    after = verdict.settled(before, known, low, high)
    if after == before:
        return None
    # Exact also where not all of the ranges were kept.
    cut, change = row.reason == LOG_CUT, verdict.count(after) - verdict.count(before)
    gaps = 0 if cut or not after else max(0, row.gaps + change)
    better = row._replace(gaps=gaps, missing=_text(after))
    return _judged(better, past_id)
