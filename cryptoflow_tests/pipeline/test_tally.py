"""The laws of the tally: batches add up, and what is told otherwise stays."""

from collections.abc import Sequence
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.pipeline.tally import Tally
from cryptoflow.tables.schema import COUNTS, BatchRecord

counts = st.integers(0, 1000)
batches = st.lists(st.tuples(counts, counts, counts, counts, counts), max_size=5)


@given(batches)
def test_the_counts_of_all_batches_are_added(given: Sequence[tuple[int, int, int, int, int]]) -> None:
    tally = Tally()
    for number, each in enumerate(given):
        tally.add(BatchRecord("query", number, *each))
    told = tally.metrics()
    assert told.batches == len(given)
    for place, name in enumerate(COUNTS):
        assert getattr(told, name) == sum(each[place] for each in given)


def test_what_is_told_stays_until_it_is_told_anew() -> None:
    tally = Tally()
    assert tally.metrics().waiting_trades is tally.metrics().watermark_s is None
    tally.tell(waiting_trades=3)
    tally.add(BatchRecord("query", 0, watermark=datetime.fromtimestamp(9, UTC)))
    tally.add(BatchRecord("query", 1))
    assert (tally.metrics().waiting_trades, tally.metrics().watermark_s) == (3, 9)
