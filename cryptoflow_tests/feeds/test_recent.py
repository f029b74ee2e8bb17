"""The memory of recent trades: what counts as a duplicate."""

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.feeds.recent import RecentTrades
from cryptoflow.model.trade import Trade

PAIRS = [(market, "BTC", "USD") for market in ("A", "B", "Kraken", "Gemini", "Binance")]


def trade(trade_id: str, market: str = "Kraken") -> Trade:
    return Trade(market, "BTC", "USD", "1", trade_id, 1_700_000_000, 1.0, 2.0, 2.0)


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 30).map(str))))
def test_a_trade_is_new_once(seen: list[tuple[str, str]]) -> None:
    recent = RecentTrades(PAIRS, size=1000)
    new = [item for item in seen if recent.add(trade(item[1], item[0]))]
    assert new == list(dict.fromkeys(seen))


@given(st.lists(st.integers(0, 50).map(str)), st.integers(1, 10))
def test_the_last_ids_of_a_pair_are_known_and_older_ones_forgotten(ids: list[str], size: int) -> None:
    recent = RecentTrades(PAIRS, size)
    kept: list[str] = []
    for trade_id in ids:
        assert recent.add(trade(trade_id)) == (trade_id not in kept)
        kept = kept if trade_id in kept else [*kept, trade_id][-size:]


def test_a_busy_pair_does_not_push_out_a_quiet_one() -> None:
    recent = RecentTrades(PAIRS, size=10)
    recent.add(trade("7", "Gemini"))
    for number in range(1000):
        recent.add(trade(str(number), "Binance"))
    assert not recent.add(trade("7", "Gemini"))


def test_all_pairs_that_nobody_subscribed_share_one_memory() -> None:
    recent = RecentTrades(PAIRS, size=10)
    recent.add(trade("7"))
    for number in range(1000):
        assert recent.add(trade("7", f"Market{number}"))
        assert not recent.add(trade("7", f"Market{number}"))
    assert recent.remembered == 11
    assert not recent.add(trade("7"))
    assert recent.add(trade("7", "Market1"))
