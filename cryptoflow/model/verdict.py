"""What is known of an hour of a pair: whether its candles have all trades, and why that is so. Pure.

The trades of a pair have numbers that step by one: the ids of the venues, CryptoCompare's sequence. An hour is proven
to be whole when its numbers have no hole and join those of the trades before and after it; an hour without a trade,
when the numbers on both sides of it join:

    number          96 97 98 | 99 100 101 .. 140 141 |   | 142 143
    hour              before |       complete        | q | after        q: quiet, proven empty
    number          96 97    |    100 .. 120  125    |   |
    hour              before |  98, 99, 121 to 124 are missing, and what comes after 125 is not known yet
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

COMPLETE, REPAIRED, QUIET, SUSPECT = "complete", "repaired", "quiet", "suspect"
VERDICTS = (COMPLETE, REPAIRED, QUIET, SUSPECT)
"""The candles had all trades; they have them since a repair; there was none; it can't be told, or not be mended."""

LOG_CUT = "log cut"
"""Why: the log does not hold all trades of the hour, or no more, and no numbers prove that it has them all the same."""

LATE_TRADES, DIFFERENT, FILLED = "late trades", "the rows differed", "trades were filled in"
PROVEN, ALL_THERE = "its numbers have no hole", "the candles have all trades of the log"
ADJACENT = "the numbers before and after it join"
NOT_BEFORE, NOT_AFTER = "what came before its first trade is not known", "no later trade yet proves its end"
NO_TRADE = "no trade yet proves that it had none"
"""Why."""

SHOWN_RANGES = 3
"""Of missing numbers, in a reason."""

MOST_RANGES = 1000
"""Of missing numbers, that are kept; those above are taken for one."""

Run = tuple[int, int]
"""Numbers that are known, from the first to the last."""

Range = tuple[int | None, int | None]
"""Numbers that are missing, from the first to the last; None: from where on, or up to where, is not known."""


class Numbers(NamedTuple):
    """The numbers of a pair's trades that are known, as seen from an hour: each `joined`."""

    here: Sequence[Run] = ()
    """Of its own trades."""
    earlier: Sequence[Run] = ()
    later: Sequence[Run] = ()


def joined(runs: Iterable[Run]) -> list[Run]:
    """The runs in order, those made one that overlap or follow upon each other."""
    found: list[Run] = []
    for first, last in sorted(runs):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def has(runs: Sequence[Run], number: int) -> bool:
    """Whether a number is in one of the joined runs."""
    place = bisect_right(runs, number, key=lambda run: run[0]) - 1
    return place >= 0 and number <= runs[place][1]


def holes(first: int, last: int, runs: Sequence[Run]) -> list[Run]:
    """The numbers from `first` to `last` that are in none of the joined runs."""
    found = []
    for begin, end in runs[bisect_left(runs, first, key=lambda run: run[1]) :]:
        if begin > last:
            break
        if begin > first:
            found.append((first, begin - 1))
        first = max(first, end + 1)
    return [*found, (first, last)] if first <= last else found


def missing(numbers: Numbers, before: int | None, after: int | None) -> list[Range]:
    """The numbers that an hour may lack, as far as is known; none: it is proven to be whole.

    Args:
        before: the number of the last trade before the hour; None: that is not known.
        after: that of the first one after it.
    """
    elsewhere = joined([*numbers.earlier, *numbers.later])
    known = joined([*numbers.here, *elsewhere])
    low = None if before is None else before + 1
    high = None if after is None else after - 1
    if numbers.here:
        first, last = numbers.here[0][0], numbers.here[-1][1]
        low = first if has(elsewhere, first - 1) else low if low is not None and low <= first else None
        high = last if has(elsewhere, last + 1) else high if high is not None and high >= last else None
        inside = holes(first if low is None else low, last if high is None else high, known)
        return [*[(None, first - 1)] * (low is None), *inside, *[(last + 1, None)] * (high is None)]
    if _join(numbers.earlier, numbers.later):
        return []
    return [(low, high)] if low is None or high is None else [*holes(low, high, known)]


def _join(earlier: Sequence[Run], later: Sequence[Run]) -> bool:
    return not {last + 1 for _, last in earlier}.isdisjoint(first for first, _ in later)


def settled(
    ranges: Iterable[Range], known: Sequence[Run], low: int | None = None, high: int | None = None
) -> list[Range]:
    """What is still missing of an hour when more is known of those beside it.

    Args:
        known: joined runs of numbers that are no more missing.
        low, high: numbers below and above can't be the hour's; None: that is not known.
    """
    found: list[Range] = []
    for first, last in ranges:
        begin = low if first is None else first if low is None else max(first, low)
        end = high if last is None else last if high is None else min(last, high)
        if begin is not None and end is not None:
            found += holes(begin, end, known)
        else:  # that the next number is known proves nothing: it may be of the other side
            found.append((begin, end))
    return found


def count(ranges: Iterable[Range]) -> int:
    """How many numbers are missing, of which it is known that they are."""
    return sum(last - first + 1 for first, last in ranges if first is not None and last is not None)


def bounded(ranges: Sequence[Range]) -> Sequence[Range]:
    """As many ranges as are kept: the last of them takes in all that are above."""
    if len(ranges) <= MOST_RANGES:
        return ranges
    return [*ranges[: MOST_RANGES - 1], (ranges[MOST_RANGES - 1][0], ranges[-1][1])]


class Facts(NamedTuple):
    """What decides the verdict on an hour of a pair."""

    trades: int
    """In its candles."""
    gaps: int = 0
    """How many numbers are missing."""
    missing: Sequence[Range] = ()
    numbered: bool = False
    """Whether its trades, or those around it, have numbers."""
    cut: bool = False
    """Whether the log does not provably hold all of its trades."""
    repaired: bool = False
    """Whether a repair has changed its candles."""
    late: bool = False
    filled: bool = False
    """Whether some of its trades came too late, or were filled in."""
    disagreement: str = ""
    """What the venue's own candles say otherwise."""
    compared: bool = True
    """Whether the candles are known to be those of the log; else what a venue says is reason enough to doubt them."""


def verdict(facts: Facts) -> tuple[str, str]:
    """The verdict, and why it is that.

    Numbers prove more than the venue's candles, which differ at times from its own trades: of a proven hour these are
    told, and change nothing.
    """
    if facts.cut:
        return SUSPECT, LOG_CUT
    if facts.gaps:
        return SUSPECT, missing_text(facts.gaps, facts.missing)
    if facts.missing:
        return SUSPECT, _open_text(facts)
    if facts.disagreement and not (facts.numbered and facts.compared):
        return SUSPECT, facts.disagreement
    said, reason = _whole(facts)
    return said, f"{reason}; {facts.disagreement}" if facts.disagreement else reason


def _whole(facts: Facts) -> tuple[str, str]:
    if not facts.trades and facts.numbered:
        return QUIET, ADJACENT
    if facts.repaired:
        return REPAIRED, LATE_TRADES if facts.late else FILLED if facts.filled else DIFFERENT
    return COMPLETE, PROVEN if facts.numbered else ALL_THERE


def mark(verdicts: Iterable[str]) -> str:
    """What is to be said of candles of hours with these verdicts; nothing, if they had all trades from the start."""
    found = set(verdicts)
    return next((each for each in (SUSPECT, REPAIRED) if each in found), "")


def _open_text(facts: Facts) -> str:
    if not facts.trades:
        return NO_TRADE
    return NOT_BEFORE if facts.missing[0][0] is None else NOT_AFTER


def missing_text(gaps: int, ranges: Sequence[Range]) -> str:
    """Which numbers are missing, in words."""
    closed = [(first, last) for first, last in ranges if first is not None and last is not None]
    named = [f"{first}" if first == last else f"{first} to {last}" for first, last in closed[:SHOWN_RANGES]]
    more = ", ..." if len(closed) > SHOWN_RANGES else ""
    return f"{gaps:,} {'trade' if gaps == 1 else 'trades'} missing: {', '.join(named)}{more} did not come"
