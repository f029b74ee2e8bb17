"""`python -m benchmarks.flink_job BOOTSTRAP TOPIC VARIANT JAR OUT`: the topic's candles by Flink SQL, to a JSON file.

Runs in the environment of `benchmarks.environment`. Tuned in Flink's favour, each step measured: batch mode (streaming
with mini-batches takes longer and three times the memory), the id first in the sort, managed memory for the sort, and
`flink.JVM_ARGS`.
"""

import json
import sys
from pathlib import Path

from pyflink.table import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    EnvironmentSettings,
    TableEnvironment,
)

SETTINGS = {
    "parallelism.default": "2",
    "pipeline.object-reuse": "true",
    "taskmanager.memory.managed.size": "2g",
}

TRADES = """
CREATE TABLE trades (
    ID STRING, M STRING, FSYM STRING, TSYM STRING, F STRING,
    TS BIGINT, TSNS BIGINT, Q DOUBLE, P DOUBLE, TOTAL DOUBLE
) WITH (
    'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap_servers}',
    'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json'
)"""

SOURCES = {
    "row_number": """(SELECT * FROM (
        SELECT *, ROW_NUMBER() OVER (PARTITION BY ID, M, FSYM, TSYM ORDER BY TS, TSNS) AS place FROM trades
    ) WHERE place = 1)""",
    "distinct": "(SELECT DISTINCT ID, M, FSYM, TSYM, F, TS, TSNS, Q, P, TOTAL FROM trades)",
    "none": "trades",
}
"""What is aggregated, by variant. `distinct` keeps two trades of one id that differ, which this topic does not have."""

PACKED = "(MOD(TS, 60) * CAST(1000000000 AS BIGINT) + TSNS) * 134217728 + CAST(ROUND(P * 100) AS BIGINT)"
"""Exchange time within the minute and the price in cents, in one number.

Flink SQL has no min_by: the least of these numbers holds the open, the greatest the close. It works for such prices
only (below 2**27 cents, and whole ones), and is as cheap as it gets. Trades of one nanosecond go by price, not by id.
"""

CENTS = 134217728


def _side(bit: int) -> str:
    only = f"FILTER (WHERE side = {bit})"
    return f"COUNT(*) {only}, SUM(Q) {only}, SUM(TOTAL) {only}, AVG(P) {only}"


def candles(variant: str) -> str:
    """The query; its columns are those of `compare.Row`."""
    return f"""
SELECT M, FSYM, TSYM, start_s, MOD(MIN(packed), {CENTS}) / 100E0, MAX(P), MIN(P), MOD(MAX(packed), {CENTS}) / 100E0,
    SUM(TOTAL) / SUM(Q), COUNT(*), SUM(Q), SUM(TOTAL), {_side(2)}, {_side(1)}
FROM (
    SELECT M, FSYM, TSYM, TS - MOD(TS, 60) AS start_s, {PACKED} AS packed, P, Q, TOTAL, MOD(CAST(F AS INT), 4) AS side
    FROM {SOURCES[variant]}
) GROUP BY start_s, M, FSYM, TSYM"""


def main(bootstrap_servers: str, topic: str, variant: str, jar: str, out: str) -> None:
    """Read the topic up to its end, and write the rows."""
    environment = TableEnvironment.create(EnvironmentSettings.in_batch_mode())
    for name, value in {**SETTINGS, "pipeline.jars": Path(jar).as_uri()}.items():
        environment.get_config().set(name, value)
    environment.execute_sql(TRADES.format(topic=topic, bootstrap_servers=bootstrap_servers))
    with environment.execute_sql(candles(variant)).collect() as rows:
        Path(out).write_text(json.dumps([list(row) for row in rows]))


if __name__ == "__main__":
    main(*sys.argv[1:])
