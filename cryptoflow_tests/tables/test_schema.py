"""The schema as data, and the CQL made from it."""

import pytest

from cryptoflow.tables.schema import (
    BATCHES,
    BATCHES_TTL_S,
    CANDLES,
    HOURS,
    LEASES,
    MARKS,
    PROGRESS,
    TABLES,
    TRADE_WINDOWS,
    Table,
    add_columns,
    compaction_days,
    create_keyspace,
    create_table,
    delete,
    differences,
    insert,
    primary_key,
)

DAY_S = 86_400


def test_the_old_programs_table_has_its_columns_and_a_key_with_the_pair() -> None:
    assert TRADE_WINDOWS.columns == {
        "date": "timestamp",
        "window_start": "timestamp",
        "window_end": "timestamp",
        "market": "text",
        "direction": "text",
        "fromcoin": "text",
        "tocurrency": "text",
        "avgprice": "double",
        "totalquantity": "double",
        "totalvol": "double",
        "counttxns": "bigint",
        "uuid": "timeuuid",
    }
    assert primary_key(TRADE_WINDOWS) == ("((date), window_end, window_start, direction, market, fromcoin, tocurrency)")


def test_candles_are_kept_by_series_and_date() -> None:
    assert primary_key(CANDLES) == "((market, fromcoin, tocurrency, window_seconds, date), window_start)"
    assert CANDLES.columns["window_seconds"] == "int"
    assert CANDLES.columns["trades"] == "bigint"


def test_only_tables_without_a_time_to_live_of_their_own_take_the_settings() -> None:
    assert "default_time_to_live = 7 " in create_table(CANDLES, "k", 7)
    assert f"default_time_to_live = {BATCHES_TTL_S} " in create_table(BATCHES, "k", 7)
    for table in (PROGRESS, MARKS, HOURS, LEASES):  # without them the candles can't be told from lost ones
        assert "default_time_to_live = 0" in create_table(table, "k", 7)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_an_insert_binds_every_column_once(table: Table) -> None:
    cql = insert(table, "k")
    assert cql.count("?") == len(table.row._fields) + 1  # type: ignore[attr-defined]
    assert cql.endswith("USING TIMESTAMP ?")
    assert f"({', '.join(table.row._fields)})" in cql  # type: ignore[attr-defined]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_delete_binds_the_time_and_every_column_of_the_key(table: Table) -> None:
    cql = delete(table, "k")
    assert cql.count("?") == len(table.partition) + len(table.clustering) + 1
    assert cql.startswith(f'DELETE FROM "k"."{table.name}" USING TIMESTAMP ? WHERE {table.partition[0]} = ?')


def test_how_far_it_is_now_stands_once_for_all_hours_of_a_topic() -> None:
    cql = create_table(PROGRESS, "k", 0)
    assert "fence bigint static" in cql
    assert "now_offsets frozen<map<int, bigint>> static" in cql
    assert PROGRESS.static.isdisjoint({"window_seconds", "topic_id", "hour", "finished", "offsets", "begins"})
    assert "CLUSTERING ORDER BY (hour DESC)" in cql


def test_only_tables_whose_rows_are_written_once_have_files_by_the_time_of_writing() -> None:
    by_time = {table.name for table in TABLES if "TimeWindowCompactionStrategy" in create_table(table, "k", 0)}
    assert by_time == {"candles", "trademsgs1minutewindow", "batches", "hours"}
    assert "CLUSTERING" not in create_table(LEASES, "k", 0)


@pytest.mark.parametrize(("ttl_s", "days"), [(0, 7), (3600, 1), (30 * DAY_S, 1), (365 * DAY_S, 13)])
def test_compaction_windows_stay_few(ttl_s: int, days: int) -> None:
    assert compaction_days(ttl_s) == days


def test_a_keyspace_with_a_data_center_replicates_there() -> None:
    assert "{'class': 'NetworkTopologyStrategy', 'dc''1': 3}" in create_keyspace("k", 3, "dc'1")
    assert "{'class': 'SimpleStrategy', 'replication_factor': 1}" in create_keyspace("k", 1, None)


def test_only_columns_that_came_later_are_added_to_a_table() -> None:
    assert add_columns(HOURS, "k", HOURS.columns) is None
    assert add_columns(CANDLES, "k", {}) is None
    assert add_columns(HOURS, "k", {*HOURS.columns} - {"market", "missing", "last_number"}) == (
        'ALTER TABLE "k"."hours" ADD (last_number bigint, missing text)'
    )


def described() -> dict[str, tuple[str, str, str]]:
    return {
        "query_id": ("text", "partition_key#0", "none"),
        "batch_id": ("bigint", "clustering#0", "desc"),
        **dict.fromkeys(BATCHES.row._fields[2:7], ("bigint", "regular", "none")),  # type: ignore[attr-defined]
        "watermark": ("timestamp", "regular", "none"),
        "finished_at": ("timestamp", "regular", "none"),
    }


def test_a_column_that_somebody_added_is_no_difference() -> None:
    assert differences(BATCHES, described()) == []
    assert differences(BATCHES, described() | {"note": ("text", "regular", "none")}) == []


def test_every_other_difference_is_named() -> None:
    found = described() | {
        "late": ("int", "regular", "none"),
        "batch_id": ("bigint", "clustering#0", "asc"),
        "day": ("text", "partition_key#1", "none"),
    }
    del found["watermark"]
    assert differences(BATCHES, found) == [
        "no column watermark",
        "day in its key",
        "batch_id is bigint clustering#0 asc instead of bigint clustering#0 desc",
        "late is int regular instead of bigint regular",
    ]
