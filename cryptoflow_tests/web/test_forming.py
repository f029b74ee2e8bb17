"""Laws of the candles that form: at any moment they are what the plain reference makes of the trades so far."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.candle import Candle, candles_of
from cryptoflow.model.trade import NS_PER_S, Trade
from cryptoflow.model.window import epoch_ns
from cryptoflow.web.forming import Forming, FormingKey

WINDOW_S = 60
T0_S = 1_700_000_040
"""The start of a window."""

amounts = st.floats(0, 1e18) | st.decimals(0, 10_000, places=8).map(float)

trades = st.builds(
    Trade,
    market=st.sampled_from(["Kraken", "Coinbase"]),
    from_coin=st.just("BTC"),
    to_currency=st.sampled_from(["USD", "EUR"]),
    flags=st.sampled_from(["1", "2", "4", "9", "10"]),
    id=st.integers(0, 30).map(str) | st.sampled_from(["a", "b", "007"]),
    time_s=st.integers(T0_S - WINDOW_S, T0_S + 2 * WINDOW_S),
    quantity=amounts,
    price=amounts.filter(bool),
    total=amounts,
    rest_ns=st.sampled_from([0, 1, 500_000_000]),
)


def folded(taken: Sequence[Trade], forming: Forming) -> dict[FormingKey, Candle]:
    keys = [key for trade in taken if (key := forming.add(trade))]
    return {key: candle for key in keys if (candle := forming.candle(key))}


def reference(taken: Sequence[Trade]) -> dict[FormingKey, Candle]:
    return {(key[:3], epoch_ns(key[3])): candle for key, candle in candles_of(taken, WINDOW_S).items()}


@given(st.lists(trades, max_size=60))
def test_the_fold_is_the_reference_whatever_the_order_and_the_duplicates(taken: list[Trade]) -> None:
    assert folded(taken, Forming(WINDOW_S)) == reference(taken)


@given(st.lists(trades, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_distinct_trades_makes_no_difference(taken: list[Trade], random: object) -> None:
    distinct = list({trade.identity: trade for trade in taken}.values())
    shuffled = sorted(distinct, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert folded(distinct, Forming(WINDOW_S)) == folded(shuffled, Forming(WINDOW_S))


@given(st.lists(trades, max_size=40), st.integers(0, 40))
def test_at_any_moment_it_is_the_reference_of_the_trades_so_far(taken: list[Trade], so_far: int) -> None:
    forming = Forming(WINDOW_S)
    assert folded(taken[:so_far], forming) == reference(taken[:so_far])
    folded(taken[so_far:], forming)
    assert {key: forming.candle(key) for key in reference(taken)} == reference(taken)


@given(st.lists(trades, max_size=40))
def test_a_window_from_before_the_floor_is_never_begun(taken: list[Trade]) -> None:
    floor_ns = T0_S * NS_PER_S
    expected = {key: candle for key, candle in reference(taken).items() if key[1] >= floor_ns}
    # a duplicate in another window than its first trade: the first may lie below the floor, where nobody remembers it
    if len({trade.identity for trade in taken}) == len(taken):
        assert folded(taken, Forming(WINDOW_S, floor_ns)) == expected
    assert all(key[1] >= floor_ns for key in folded(taken, Forming(WINDOW_S, floor_ns)))


@given(st.lists(trades, min_size=1, max_size=40))
def test_a_settled_window_stays_so(taken: list[Trade]) -> None:
    forming = Forming(WINDOW_S)
    settled = forming.add(taken[0])
    assert settled
    forming.settle(settled)
    assert settled not in folded(taken, forming)
    assert forming.candle(settled) is None


def test_raising_the_floor_forgets_what_lies_below() -> None:
    first = Trade("Kraken", "BTC", "USD", "1", "1", T0_S, 1.0, 2.0, 2.0)
    second = Trade("Kraken", "BTC", "USD", "1", "2", T0_S + WINDOW_S, 1.0, 2.0, 2.0)
    forming = Forming(WINDOW_S)
    keys = [forming.add(first), forming.add(second)]
    forming.raise_floor((T0_S + 1) * NS_PER_S)
    assert forming.keys(first.pair) == keys[1:]
    assert forming.add(first) is None


def test_who_asks_for_a_pair_without_trades_leaves_nothing_behind() -> None:
    forming = Forming(60)
    pair = ("Nowhere", "BTC", "USD")
    assert forming.keys(pair) == []
    assert forming.candle((pair, 0)) is None
    assert not forming._windows
