"""Laws of how candles look: every digit that counts, in columns, whatever a name holds."""

from datetime import UTC, datetime, timedelta, timezone
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cryptoflow.model.candle import Candle, Side, candle_row
from cryptoflow.render import NUMBER_COLUMNS, TEXT_COLUMNS, amount, candle_table, utc_text

BASE = Candle(
    market="Coinbase",
    from_coin="BTC",
    to_currency="USD",
    window_start=datetime(2021, 1, 8, 0, 1, tzinfo=UTC),
    window_s=60,
    open=63_240.0,
    high=63_250.25,
    low=63_239.88,
    close=63_245.5,
    trades=12_345,
    quantity=1.5,
    volume=94_868.25,
    buy=Side(2, 1.25, 79_000.0, 126_490.0),
    sell=Side(1, 0.25, 15_868.25, 63_240.0),
)


def printed(*candles: Candle, width: int = 160, title: str | None = None) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(candle_table(candles, title))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_candle_is_one_line_under_its_headings() -> None:
    heading, line = (text.split() for text in printed(BASE).splitlines() if any(c.isalnum() for c in text))
    assert heading == " ".join((*TEXT_COLUMNS, *NUMBER_COLUMNS)).split()
    assert line == [
        "Coinbase", "BTC-USD", "2021-01-08", "00:01:00", "63,240.00", "63,250.25", "63,239.88", "63,245.50",
        "63,245.50", "12,345", "1.50000", "1.25000", "0.250000",
    ]  # fmt: skip


def test_a_row_of_the_table_looks_like_its_candle() -> None:
    console = Console(file=StringIO(), width=160)
    console.print(candle_table([candle_row(BASE)]))
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue() == printed(BASE)


def test_candles_keep_their_order_and_the_title_is_above() -> None:
    other = Candle(**{name: getattr(BASE, name) for name in BASE.__struct_fields__} | {"market": "Kraken"})
    text = printed(other, BASE, title="newest")
    assert text.index("newest") < text.index("Kraken") < text.index("Coinbase")


def test_a_name_is_no_markup() -> None:
    odd = Candle(**{name: getattr(BASE, name) for name in BASE.__struct_fields__} | {"market": "[red]X[/]"})
    assert "[red]X[/]" in printed(odd)


@pytest.mark.parametrize("width", [80, 100, 129, 132, 160])
def test_nothing_is_cut_on_any_terminal(width: int) -> None:
    console = Console(file=StringIO(), width=width)
    console.print(candle_table([BASE], width=width))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "…" not in text
    for shown in ("Coinbase", "BTC-USD", "00:01:00", "63,240.00", "63,250.25", "63,239.88", "63,245.50", "12,345"):
        assert shown in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00"), (1, "1.00000"), (9.5, "9.50000"), (10, "10.0000"), (63_240, "63,240.00"),
        (1_234_567.891, "1,234,567.89"), (0.00001234567, "0.0000123457"), (-2.5, "-2.50000"),
    ],
)  # fmt: skip
def test_an_amount_has_six_significant_digits_and_two_decimals_at_least(value: float, text: str) -> None:
    assert amount(value) == text


@given(st.floats(1e-12, 1e15))
def test_an_amount_is_right_to_six_significant_digits(value: float) -> None:
    assert float(amount(value).replace(",", "")) == pytest.approx(value, rel=1e-5)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), st.integers(-12, 14))  # noqa: DTZ001
def test_a_time_is_in_utc_whatever_its_zone(moment: datetime, hours: int) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert utc_text(aware.astimezone(timezone(timedelta(hours=hours)))) == aware.strftime("%Y-%m-%d %H:%M:%S")
