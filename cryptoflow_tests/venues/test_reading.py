"""Times and records of venues' trades."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.model.trade import NS_PER_S, Trade, read_trade
from cryptoflow.venues.reading import recorded, utc_ns

PAIR = ("Kraken", "BTC", "USD")


@given(st.datetimes(datetime(1970, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC)), st.integers(0, NS_PER_S - 1))  # noqa: DTZ001
def test_a_time_keeps_each_of_its_nine_digits(second: datetime, rest_ns: int) -> None:
    second = second.replace(microsecond=0)
    text = f"{second:%Y-%m-%dT%H:%M:%S}.{rest_ns:09}"
    assert utc_ns(f"{text}Z") == utc_ns(f"{text}123Z") == int(second.timestamp()) * NS_PER_S + rest_ns


def test_a_time_may_have_any_number_of_digits() -> None:
    assert utc_ns("1970-01-01T00:00:01Z") == NS_PER_S
    assert utc_ns("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert utc_ns("2026-08-25T03:35:57.096368Z") % NS_PER_S == 96_368_000


@pytest.mark.parametrize(
    "text",
    ["", "Z", "2026-08-25", "2026-08-25T03:35:57", "2026-08-25T03:35:57+01:00", "2026-13-25T03:35:57Z",
     "2026-08-25T03:35:57.Z", "2026-08-25T03:35:57.\u0661Z", "2026-08-25 03:35:57Z", "0000-08-25T03:35:57Z"],
)  # fmt: skip
def test_what_is_no_time_in_utc_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableFrameError, match="no time"):
        utc_ns(text)


def test_a_record_is_cryptocompares_frame_with_the_venues_id_sequence_nanoseconds_and_digits() -> None:
    trade, record = recorded(
        PAIR, 72823289, 1_723_491_510_575_191_000, Decimal("59121.80"), Decimal("0.00022946"), "SELL"
    )
    assert record == (
        b'{"TYPE":"0","M":"Kraken","FSYM":"BTC","TSYM":"USD","F":"1","ID":"72823289","TS":1723491510,'
        b'"Q":0.00022946,"P":59121.80,"TOTAL":13.5660882280,"CCSEQ":72823289,"TSNS":575191000}'
    )
    assert trade == read_trade(record)
    assert trade == Trade(
        *PAIR, "1", "72823289", 1_723_491_510, 0.00022946, 59121.8, 13.566088228, sequence=72823289, rest_ns=575191000
    )


def test_ids_that_do_not_step_by_one_are_no_sequence() -> None:
    trade, _ = recorded(PAIR, 7, NS_PER_S, Decimal(1), Decimal(1), "BUY", consecutive=False)
    assert (trade.id, trade.sequence) == ("7", None)


@given(st.decimals(allow_nan=True, allow_infinity=True), st.decimals(allow_nan=True, allow_infinity=True))
def test_an_amount_is_a_trades_or_unreadable(price: Decimal, quantity: Decimal) -> None:
    try:
        trade, _ = recorded(PAIR, 7, NS_PER_S, price, quantity, "BUY")
    except UnreadableFrameError:
        return
    assert (trade.price, trade.quantity) == (float(price), float(quantity))
