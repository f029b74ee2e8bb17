"""Rows of the tables as JSON, CSV and Parquet: the columns are the row classes' fields in all three. Pure."""

import io
import uuid
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from pydantic import BaseModel, create_model


class Format(StrEnum):
    """What rows are sent as."""

    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.PARQUET: "application/vnd.apache.parquet",
}

ARROW_TYPES = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    datetime: pa.timestamp("ms", "UTC"),
    uuid.UUID: pa.string(),
}


def json_row(row: NamedTuple, **more: object) -> bytes:
    """A row as a JSON object; times are ISO 8601 in UTC."""
    return msgspec.json.encode({**row._asdict(), **more})


def encoded(kind: type[NamedTuple], rows: Sequence[NamedTuple], format: Format) -> bytes:
    """Rows of one kind as a whole document; one without rows has its columns all the same."""
    if format is Format.JSON:
        return msgspec.json.encode([row._asdict() for row in rows])
    table, out = _table(kind, rows), io.BytesIO()
    if format is Format.CSV:
        pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(quoting_style="needed"))
    else:
        pyarrow.parquet.write_table(table, out)
    return out.getvalue()


def _table(kind: type[NamedTuple], rows: Sequence[NamedTuple]) -> pa.Table:
    schema = pa.schema([pa.field(name, ARROW_TYPES[hint]) for name, hint in _plain_types(kind).items()])
    made = [[str(value) if isinstance(value, uuid.UUID) else value for value in row] for row in rows]
    columns = zip(*made, strict=True) if made else [()] * len(schema)
    return pa.table([pa.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)], schema)


@cache
def _plain_types(kind: type[NamedTuple]) -> dict[str, Any]:
    """The Python type of each column; a column that may be empty has that of its values."""
    return {name: _plain(hint) for name, hint in get_type_hints(kind).items()}


def _plain(hint: Any) -> Any:
    return next(each for each in get_args(hint) or (hint,) if each is not type(None))


@cache
def row_model(name: str, kind: type[NamedTuple]) -> type[BaseModel]:
    """The row as an object, for the description of the API."""
    hints = get_type_hints(kind, include_extras=True).items()
    fields: dict[str, Any] = {
        column: (get_args(hint)[0] if get_origin(hint) is Annotated else hint, ...) for column, hint in hints
    }
    return create_model(name, **fields)
