"""Laws of the parameters: whatever text comes is what it says, or refused; and none makes a mistake of the server."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cryptoflow.errors import ParameterError
from cryptoflow.tables.pages import ALWAYS
from cryptoflow.web.parameters import DAY_S, Moment, span

moments = TypeAdapter(Moment)
EDGES = ["0001-01-01", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59"]

zones = st.integers(-24 * 60 + 1, 24 * 60 - 1).map(lambda minutes: timezone(timedelta(minutes=minutes)))
texts = st.one_of(
    st.sampled_from([*EDGES, "0", "-1", "1e308", "253402300800", "12:00", ""]),
    st.datetimes(timezones=zones).map(datetime.isoformat),
    st.text(max_size=20),
)


@given(st.datetimes(datetime(1970, 1, 2), datetime(9998, 12, 31), timezones=st.one_of(st.none(), zones)))  # noqa: DTZ001
def test_a_time_is_the_one_that_is_named_and_of_utc_if_it_names_no_zone(moment: datetime) -> None:
    found = moments.validate_python(moment.isoformat())
    assert found == (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    assert found.tzinfo is UTC


@pytest.mark.parametrize("text", EDGES)
def test_a_time_beyond_all_that_there_can_be_is_its_edge(text: str) -> None:
    assert moments.validate_python(text) == ALWAYS[text.startswith("9")]


@given(texts, texts)
def test_whatever_times_come_they_are_a_stretch_with_dates_or_refused(start: str, end: str) -> None:
    with suppress(ValidationError, ParameterError):
        found = span(moments.validate_python(start), moments.validate_python(end))
        assert ALWAYS.start <= found.start < found.end <= ALWAYS.end
        for window_s in (0, DAY_S):
            dates = found.dates(window_s)
            assert dates.start <= dates.end
