"""Gaps: which pairs missed trades, and when. T: a trade, x: the socket is lost, time runs to the right."""

from cryptoflow.feeds.gaps import Gap, GapFinder
from cryptoflow.model.trade import NS_PER_S, Trade

SUBSCRIPTIONS = ["0~Kraken~BTC~USD", "0~Gemini~BTC~USD"]


def at(time_s: int, market: str = "Kraken") -> Trade:
    return Trade(market, "BTC", "USD", "1", str(time_s), time_s, 1.0, 2.0, 2.0)


def finder(*seen_s: int) -> GapFinder:
    gaps = GapFinder(SUBSCRIPTIONS)
    for time_s in seen_s:
        assert gaps.seen(at(time_s), new=True) is None
    return gaps


def gap(from_s: int, to_s: int, reason: str, market: str = "Kraken") -> Gap:
    return Gap(market, "BTC", "USD", from_s * NS_PER_S, to_s * NS_PER_S, reason)


def test_a_gap_runs_from_the_last_trade_before_to_the_first_one_after() -> None:
    # T10  T20  x25 ........ T90  T95
    gaps = finder(10, 20)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(90), new=True) == gap(20, 90, "cut")
    assert gaps.seen(at(95), new=True) is None


def test_a_replayed_trade_that_was_seen_bridges_the_hole() -> None:
    # T10  T20  x25 ... T20 again  T90
    gaps = finder(10, 20)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(20), new=False) is None
    assert gaps.seen(at(90), new=True) is None


def test_a_replay_that_reaches_behind_the_last_trade_bridges_the_hole() -> None:
    # T10  T20  x25 ... T15 (never seen)  T90
    gaps = finder(10, 20)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(15), new=True) is None
    assert gaps.seen(at(90), new=True) is None


def test_a_socket_lost_again_lengthens_the_gap_that_is_open() -> None:
    gaps = finder(10)
    gaps.lost(25 * NS_PER_S, "cut")
    gaps.lost(40 * NS_PER_S, "refused")
    assert gaps.seen(at(90), new=True) == gap(10, 90, "cut")


def test_each_pair_has_a_gap_of_its_own() -> None:
    gaps = finder(10)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(90, "Gemini"), new=True) == gap(25, 90, "cut", "Gemini")
    assert gaps.seen(at(91), new=True) == gap(10, 91, "cut")


def test_the_last_trade_is_the_latest_by_exchange_time() -> None:
    gaps = finder(20, 10)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(90), new=True) == gap(20, 90, "cut")


def test_an_open_gap_ends_with_the_run_for_pairs_that_had_trades() -> None:
    gaps = finder(10)
    gaps.lost(25 * NS_PER_S, "cut")
    assert list(gaps.end(99 * NS_PER_S)) == [gap(10, 99, "cut")]
    assert list(gaps.end(99 * NS_PER_S)) == []


def test_only_trade_subscriptions_have_gaps() -> None:
    gaps = GapFinder(["2~Kraken~BTC~USD", "5~CCCAGG~BTC~USD", "nonsense"])
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(90), new=True) is None
