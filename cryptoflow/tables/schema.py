"""The tables: columns, keys and options stated once, as data; the CQL is made from it. Pure.

The columns are the fields of the row classes, so a row can be bound to its table's insert as it is.
"""

import math
import uuid
from collections.abc import Container
from datetime import datetime
from types import NoneType
from typing import Annotated, NamedTuple, get_args, get_origin, get_type_hints

from cryptoflow.model.candle import CandleRow, DirectionRow
from cryptoflow.model.offsets import Offsets
from cryptoflow.model.trade import Pair
from cryptoflow.model.window import DAY_S

CQL_TYPES = {str: "text", int: "bigint", float: "double", datetime: "timestamp", uuid.UUID: "timeuuid"}

BATCHES_TTL_S = 30 * DAY_S
"""How long the record of a batch is kept."""

MOST_COMPACTION_WINDOWS = 30
"""About the files of a table with a time to live: few enough to read, and each expires as a whole."""

ENDLESS_COMPACTION_DAYS = 7
"""Days in a file of a table that keeps all: ten years are then 520 files, and a day is in one or two.

A window goes by the time of writing, so a late upsert lands in a newer file; a read merges the two.
"""


GC_GRACE_S = 3 * 3600
"""How long Cassandra keeps note of a row that was removed or has expired, in s, in tables that let go of many.

Its default is ten days, and a read that comes upon 100,000 such notes is refused: a list of all pairs soon after
candles have begun to expire, one of the marks while a venue's clock is wrong. It is not less than the time for which
Cassandra keeps what a node missed, three hours by default, as that is kept no longer than this.
"""

DEFAULT_GC_GRACE_S = 864_000
"""Cassandra's own."""


class BatchRecord(NamedTuple):
    """A row of the table `batches`: what the aggregation did in one batch. Times are aware UTC.

    Its key and `rows_written` are the ledger's to fill in.
    """

    query_id: str = ""
    batch_id: int = -1
    input_rows: int = 0
    late: int = 0
    duplicates: int = 0
    unreadable: int = 0
    rows_written: int = 0
    watermark: datetime | None = None
    finished_at: datetime | None = None


COUNTS = ("input_rows", "late", "duplicates", "unreadable", "rows_written")
"""Those of the columns of `batches` that are counts."""

OFFSETS = "frozen<map<int, bigint>>"
"""The CQL type of an offset by partition of a topic."""

STATIC = "static"
"""Marks a column of which a partition has one value for all of its rows."""


class ProgressRow(NamedTuple):
    """A row of the table `progress`: how far the aggregation of a topic had come in one hour, at last.

    The columns marked as static are how far it is now. Times are aware UTC. Written by lightweight transactions only.
    """

    window_seconds: Annotated[int, "int"]
    topic_id: str
    """The id that Kafka gave the topic."""
    hour: datetime
    """The hour of `finished`."""
    finished: datetime
    """Windows that end by then are finished."""
    offsets: Annotated[Offsets | None, OFFSETS]
    """Of what comes before them, all that belongs to a finished window is in its candle, or marked."""
    begins: Annotated[Offsets | None, OFFSETS]
    """Nothing before them belongs to a window that is not finished."""
    fence: Annotated[int | None, "bigint", STATIC] = None
    """Of the lease whose holder may write."""
    topic: Annotated[str | None, "text", STATIC] = None
    now_finished: Annotated[datetime | None, "timestamp", STATIC] = None
    now_offsets: Annotated[Offsets | None, OFFSETS, STATIC] = None
    now_begins: Annotated[Offsets | None, OFFSETS, STATIC] = None
    newest: Annotated[datetime | None, "timestamp", STATIC] = None
    """The end of the newest window that has a candle."""
    origin: Annotated[datetime | None, "timestamp", STATIC] = None
    """Windows that begin before it may have trades that the topic never held."""
    tables: Annotated[str | None, "text", STATIC] = None
    """The id of the tables that the rows were written to."""
    query: Annotated[str | None, "text", STATIC] = None
    """What the aggregation computed, as a fingerprint."""
    checkpoint: Annotated[str | None, "text", STATIC] = None
    """The name of the stream's checkpoint; it is of use only if its newest batch is this one."""
    batch_id: Annotated[int | None, "bigint", STATIC] = None


class MarkRow(NamedTuple):
    """A row of the table `marks`: an hour of a pair that is to be repaired, and where the trades lie that it lacks."""

    hour: datetime
    market: str
    fromcoin: str
    tocurrency: str
    topic_id: str
    partition: Annotated[int, "int"]
    first_offset: int
    last_offset: int
    topic: str
    trades: int
    """As many trades wait for the repair, at most."""
    until: datetime
    """The end of the newest window concerned: the repair waits until that is finished."""
    reason: str


class HourRow(NamedTuple):
    """A row of the table `hours`: what is known of an hour of a pair. Times are aware UTC."""

    market: str
    fromcoin: str
    tocurrency: str
    date: datetime
    hour: datetime
    in_log: int
    """Distinct trades in the log."""
    in_candles: int
    duplicates: int
    late: int
    """Trades that came too late for the stream, and are in the candles by a repair."""
    gaps: int
    """Trades that are missing, by their numbers; one that may be of several hours counts in each."""
    verdict: str
    reason: str
    repaired_at: datetime | None
    stretches: str
    """Where in the log its trades lie, as JSON: [[topic id, partition, first offset, offset behind the last], ...]."""
    first_number: int | None = None
    """The lowest number of its trades, the venue's id or CryptoCompare's sequence; None: they have none."""
    last_number: int | None = None
    missing: str | None = None
    """The numbers that it may lack, as JSON: [[first, last], ...], null: from or up to where is not known.

    None: its trades have no numbers.
    """
    rewritten: int | None = None
    """Candles that repairs have written or removed."""
    disagreement: str | None = None
    """What the venue's own candles say otherwise."""


class LeaseRow(NamedTuple):
    """A row of the table `leases`: who does a work that only one may do. Written by lightweight transactions only."""

    name: str
    holder: str | None
    """A `runtime.holder.Holder` as JSON; it vanishes when it is not renewed."""
    fence: int
    """Counts the holders."""
    beat: int
    """Counts the renewals of the holder."""
    reserved: int
    """Timestamps of writes, in us since the epoch, up to this one may have been given out."""


def pair_of(row: DirectionRow | CandleRow | MarkRow | HourRow) -> Pair:
    """What a row is of."""
    return row.market, row.fromcoin, row.tocurrency


class Table(NamedTuple):
    """A table: its row class gives the columns; `clustering` is the order of each clustering column."""

    name: str
    row: type[tuple[object, ...]]
    partition: tuple[str, ...]
    clustering: dict[str, str]
    ttl_s: int | None = None
    """The time to live; None: as the settings say."""
    added: tuple[str, ...] = ()
    """Columns that came later: a table of an earlier version lacks them, and they are added to it."""

    @property
    def columns(self) -> dict[str, str]:
        """CQL type by column name."""
        return {name: _cql_type(hint) for name, hint in get_type_hints(self.row, include_extras=True).items()}

    @property
    def static(self) -> set[str]:
        """The columns of which a partition has one value for all of its rows."""
        hints = get_type_hints(self.row, include_extras=True).items()
        return {name for name, hint in hints if STATIC in get_args(hint)[2:]}


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

PROGRESS = Table(
    name="progress",
    row=ProgressRow,
    partition=("window_seconds", "topic_id"),
    clustering={"hour": "DESC"},
    ttl_s=0,
)

MARKS = Table(
    name="marks",
    row=MarkRow,
    partition=("hour",),
    clustering=dict.fromkeys(("market", "fromcoin", "tocurrency", "topic_id", "partition", "first_offset"), "ASC"),
    ttl_s=0,
)

HOURS = Table(
    name="hours",
    row=HourRow,
    partition=("market", "fromcoin", "tocurrency", "date"),
    clustering={"hour": "DESC"},
    ttl_s=0,
    added=("first_number", "last_number", "missing", "rewritten", "disagreement"),
)

LEASES = Table(name="leases", row=LeaseRow, partition=("name",), clustering={}, ttl_s=0)

TABLES = (TRADE_WINDOWS, CANDLES, BATCHES, HOURS, PROGRESS, MARKS, LEASES)


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
    static = table.static
    columns = "".join(
        f"    {name} {kind}{' static' if name in static else ''},\n" for name, kind in table.columns.items()
    )
    order = ", ".join(f"{name} {direction}" for name, direction in table.clustering.items())
    ordered = f"CLUSTERING ORDER BY ({order}) AND " if order else ""
    return (
        f'CREATE TABLE IF NOT EXISTS "{keyspace}"."{table.name}" (\n'
        f"{columns}    PRIMARY KEY {primary_key(table)}\n"
        f") WITH {ordered}default_time_to_live = {ttl_s}{_compaction(table, ttl_s)}"
        f"{f' AND gc_grace_seconds = {GC_GRACE_S}' if lets_go(table, ttl_s) else ''}"
    )


def lets_go(table: Table, ttl_s: int) -> bool:
    """Whether many rows of a table with that time to live, in s, are removed or expire."""
    return table == MARKS or ttl_s > 0


def shorten_grace(table: Table, keyspace: str, ttl_s: int, gc_grace_s: int) -> str | None:
    """The CQL that mends a table of an earlier version, which lets go of rows too late; None: it is as it should be.

    Args:
        ttl_s, gc_grace_s: what it has; a time that somebody else has chosen stays.
    """
    if gc_grace_s != DEFAULT_GC_GRACE_S or not lets_go(table, ttl_s):
        return None
    return f'ALTER TABLE "{keyspace}"."{table.name}" WITH gc_grace_seconds = {GC_GRACE_S}'


def add_columns(table: Table, keyspace: str, found: Container[str]) -> str | None:
    """The CQL that adds the columns that a table of an earlier version lacks; None: it has all.

    Args:
        found: the columns that it has.
    """
    lacking = [f"{name} {table.columns[name]}" for name in table.added if name not in found]
    return f'ALTER TABLE "{keyspace}"."{table.name}" ADD ({", ".join(lacking)})' if lacking else None


def _compaction(table: Table, ttl_s: int) -> str:
    """Files by the time of writing, for tables whose rows are written once and then left alone."""
    if table not in (TRADE_WINDOWS, CANDLES, BATCHES, HOURS):
        return ""
    return (
        " AND compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS',"
        f" 'compaction_window_size': {compaction_days(ttl_s)}}}"
    )


def primary_key(table: Table) -> str:
    """The primary key of `table`, as CQL writes it."""
    partition = f"({', '.join(table.partition)})"
    return f"({', '.join([partition, *table.clustering])})"


def compaction_days(ttl_s: int) -> int:
    """The days in a compaction window of a table with that time to live, in s (0: for ever)."""
    return max(1, math.ceil(ttl_s / DAY_S / MOST_COMPACTION_WINDOWS)) if ttl_s else ENDLESS_COMPACTION_DAYS


def insert(table: Table, keyspace: str) -> str:
    """The CQL of an upsert of a whole row of `table` at a time in us, to be prepared."""
    marks = ", ".join("?" for _ in table.columns)
    return f'INSERT INTO "{keyspace}"."{table.name}" ({", ".join(table.columns)}) VALUES ({marks}) USING TIMESTAMP ?'


def delete(table: Table, keyspace: str) -> str:
    """The CQL that removes a row of `table` at a time in us, to be prepared."""
    key = " AND ".join(f"{name} = ?" for name in (*table.partition, *table.clustering))
    return f'DELETE FROM "{keyspace}"."{table.name}" USING TIMESTAMP ? WHERE {key}'


def differences(table: Table, found: dict[str, tuple[str, str, str]]) -> list[str]:
    """What is other than it should be in an existing table; nothing: it can be used.

    Args:
        found: by column name (type, kind, clustering order), the kind being partition_key#0, clustering#0,
            ... or regular.
    """
    wanted = _described(table)
    missing = [f"no column {name}" for name in wanted if name not in found]
    # a column that somebody added is harmless, unless the key has it
    harmless = ("regular", "static")
    extra = [f"{name} in its key" for name in found if name not in wanted and found[name][1] not in harmless]
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
    kinds = {name: ("static" if name in table.static else "regular", "none") for name in table.columns} | key
    return {name: (kind, *kinds[name]) for name, kind in table.columns.items()}


def _phrase(column: tuple[str, str, str]) -> str:
    cql_type, kind, order = column
    return " ".join([cql_type, kind.replace("_", " ")] + [order] * (order != "none"))
