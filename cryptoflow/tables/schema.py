"""The tables: columns, keys and options stated once, as data; the CQL is made from it. Pure.

The columns are the fields of the row classes, so a row can be bound to its table's insert as it is.
"""

import math
import uuid
from datetime import datetime
from types import NoneType
from typing import Annotated, NamedTuple, get_args, get_origin, get_type_hints

from cryptoflow.model.candle import CandleRow, DirectionRow

CQL_TYPES = {str: "text", int: "bigint", float: "double", datetime: "timestamp", uuid.UUID: "timeuuid"}

DAY_S = 86_400

BATCHES_TTL_S = 30 * DAY_S
"""How long the record of a batch is kept."""

MOST_COMPACTION_WINDOWS = 30
"""About the files of a table with a time to live: few enough to read, and each expires as a whole."""

ENDLESS_COMPACTION_DAYS = 7
"""Days in a file of a table that keeps all: ten years are then 520 files, and a day is in one or two.

A window goes by the time of writing, so a late upsert lands in a newer file; a read merges the two.
"""


class BatchRecord(NamedTuple):
    """A row of the table `batches`: what the aggregation did in one batch. Times are aware UTC.

    The writer fills in `rows_written` and `finished_at`.
    """

    query_id: str
    batch_id: int
    input_rows: int = 0
    late: int = 0
    duplicates: int = 0
    unreadable: int = 0
    rows_written: int = 0
    watermark: datetime | None = None
    finished_at: datetime | None = None


class Table(NamedTuple):
    """A table: its row class gives the columns; `clustering` is the order of each clustering column."""

    name: str
    row: type[tuple[object, ...]]
    partition: tuple[str, ...]
    clustering: dict[str, str]
    ttl_s: int | None = None
    """The time to live; None: as the settings say."""

    @property
    def columns(self) -> dict[str, str]:
        """CQL type by column name."""
        return {name: _cql_type(hint) for name, hint in get_type_hints(self.row, include_extras=True).items()}


TRADE_WINDOWS = Table(
    name="trademsgs1minutewindow",
    row=DirectionRow,
    partition=("date",),
    clustering={
        "window_end": "DESC",
        "window_start": "DESC",
        "direction": "ASC",
        "market": "ASC",
        "fromcoin": "ASC",
        "tocurrency": "ASC",
    },
)

CANDLES = Table(
    name="candles",
    row=CandleRow,
    partition=("market", "fromcoin", "tocurrency", "window_seconds", "date"),
    clustering={"window_start": "DESC"},
)

BATCHES = Table(
    name="batches",
    row=BatchRecord,
    partition=("query_id",),
    clustering={"batch_id": "DESC"},
    ttl_s=BATCHES_TTL_S,
)

TABLES = (TRADE_WINDOWS, CANDLES, BATCHES)


def _cql_type(hint: object) -> str:
    if get_origin(hint) is Annotated:
        return str(get_args(hint)[1])
    [kind] = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    return CQL_TYPES[kind]


def create_keyspace(keyspace: str, replication: int, datacenter: str | None) -> str:
    """The CQL of a keyspace with `replication` copies: in `datacenter`, or anywhere where that is None."""
    strategy = "NetworkTopologyStrategy" if datacenter else "SimpleStrategy"
    where = datacenter.replace("'", "''") if datacenter else "replication_factor"
    options = f"{{'class': '{strategy}', '{where}': {replication}}}"
    return f'CREATE KEYSPACE IF NOT EXISTS "{keyspace}" WITH replication = {options}'


def create_table(table: Table, keyspace: str, ttl_s: int) -> str:
    """The CQL of `table`; `ttl_s` is for tables that have no time to live of their own, 0: for ever."""
    ttl_s = ttl_s if table.ttl_s is None else table.ttl_s
    columns = "".join(f"    {name} {kind},\n" for name, kind in table.columns.items())
    order = ", ".join(f"{name} {direction}" for name, direction in table.clustering.items())
    return (
        f'CREATE TABLE IF NOT EXISTS "{keyspace}"."{table.name}" (\n'
        f"{columns}    PRIMARY KEY {primary_key(table)}\n"
        f") WITH CLUSTERING ORDER BY ({order}) AND default_time_to_live = {ttl_s}"
        " AND compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS',"
        f" 'compaction_window_size': {compaction_days(ttl_s)}}}"
    )


def primary_key(table: Table) -> str:
    """The primary key of `table`, as CQL writes it."""
    return f"(({', '.join(table.partition)}), {', '.join(table.clustering)})"


def compaction_days(ttl_s: int) -> int:
    """The days in a compaction window of a table with that time to live, in s (0: for ever)."""
    return max(1, math.ceil(ttl_s / DAY_S / MOST_COMPACTION_WINDOWS)) if ttl_s else ENDLESS_COMPACTION_DAYS


def insert(table: Table, keyspace: str) -> str:
    """The CQL of an upsert of a whole row of `table`, to be prepared."""
    marks = ", ".join("?" for _ in table.columns)
    return f'INSERT INTO "{keyspace}"."{table.name}" ({", ".join(table.columns)}) VALUES ({marks})'


def differences(table: Table, found: dict[str, tuple[str, str, str]]) -> list[str]:
    """What is other than it should be in an existing table; nothing: it can be used.

    Args:
        found: by column name (type, kind, clustering order), the kind being partition_key#0, clustering#0,
            ... or regular.
    """
    wanted = _described(table)
    missing = [f"no column {name}" for name in wanted if name not in found]
    # a column that somebody added is harmless, unless the key has it
    extra = [f"{name} in its key" for name in found if name not in wanted and found[name][1] != "regular"]
    other = [
        f"{name} is {_phrase(found[name])} instead of {_phrase(wanted[name])}"
        for name in wanted
        if name in found and found[name] != wanted[name]
    ]
    return missing + extra + other


def _described(table: Table) -> dict[str, tuple[str, str, str]]:
    key = {name: (f"partition_key#{i}", "none") for i, name in enumerate(table.partition)}
    for i, (name, order) in enumerate(table.clustering.items()):
        key[name] = f"clustering#{i}", order.lower()
    return {name: (kind, *key.get(name, ("regular", "none"))) for name, kind in table.columns.items()}


def _phrase(column: tuple[str, str, str]) -> str:
    cql_type, kind, order = column
    return " ".join([cql_type, kind.replace("_", " ")] + [order] * (order != "none"))
