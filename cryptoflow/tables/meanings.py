"""What columns mean, for documents and Dagster's pages: what stands below a row's field, else what is said here."""

import inspect
import re
from collections.abc import Mapping
from functools import cache

from cryptoflow.tables.schema import Table

COMMON: Mapping[str, str] = {
    "market": "The exchange, such as Coinbase.",
    "fromcoin": "The coin that is traded, such as BTC.",
    "tocurrency": "What it is paid in, such as USD.",
    "direction": "The taker's side: BUY or SELL.",
    "date": "UTC midnight of the window's end.",
    "window_start": "From then on, UTC.",
    "window_end": "Before then, UTC.",
    "window_seconds": "The window's length.",
    "open": "The first price, by exchange time, then by trade id.",
    "high": "The highest price.",
    "low": "The lowest price.",
    "close": "The last price, by exchange time, then by trade id.",
    "vwap": "The mean price by quantity: volume by quantity.",
    "quantity": "Sum of the quantities, in the coin.",
    "volume": "Sum of price by quantity, in the currency.",
    "buy_quantity": "What takers bought of it.",
    "sell_quantity": "What takers sold of it; what both lack to the whole was of unknown side.",
    "trades": "Number of trades.",
    "avgprice": "Plain mean of the prices.",
    "totalquantity": "Sum of the quantities, in the coin.",
    "totalvol": "Sum of price by quantity, in the currency.",
    "counttxns": "Number of trades.",
    "uuid": "A function of the row's key: a replay writes the same row.",
    "hour": "The hour's start, UTC.",
    "duplicates": "Trades that came more than once.",
    "gaps": "Trades that are missing, as far as that is known.",
    "verdict": "How far the candles can be trusted: complete, repaired, quiet or suspect.",
    "reason": "Why.",
    "repaired_at": "When it was last computed anew.",
}


def meanings(table: Table) -> dict[str, str]:
    """The meaning of each column of a table; empty where its name says it all."""
    own = documented(table.row)
    return {column: own.get(column) or COMMON.get(column, "") for column in table.columns}


@cache
def documented(kind: type) -> Mapping[str, str]:
    """What stands as text below each field of a class, by the field's name."""
    found = re.findall(r'^    (\w+):[^\n]*\n    """(.*?)"""', inspect.getsource(kind), re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
