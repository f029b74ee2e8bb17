"""The laws of the tally: a batch counts once, whatever becomes of it."""

from collections.abc import Sequence
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.pipeline.tally import Tally
from cryptoflow.tables.schema import COUNTS, BatchRecord

counts = st.integers(0, 1000)
batches = st.lists(st.lists(st.tuples(counts, counts, counts, counts, counts), min_size=1, max_size=3), max_size=5)
"""Each batch comes one time or several, as it was counted then."""


@given(batches)
def test_of_a_batch_that_comes_again_the_last_counts_stand(
    given: Sequence[Sequence[tuple[int, int, int, int, int]]],
) -> None:
    tally = Tally()
    for number, tries in enumerate(given):
        for each in tries:
            tally.add(BatchRecord("query", number, *each))
    told = tally.metrics()
    assert told.batches == len(given)
    for place, name in enumerate(COUNTS):
        assert getattr(told, name) == sum(tries[-1][place] for tries in given)


def test_batches_of_two_queries_are_two() -> None:
    tally = Tally()
    for query in ("one", "other"):
        tally.add(BatchRecord(query, 0, input_rows=5))
    assert (tally.metrics().batches, tally.metrics().input_rows) == (2, 10)


def test_what_is_told_stays_until_it_is_told_anew() -> None:
    tally = Tally()
    assert tally.metrics().waiting_trades is tally.metrics().watermark_s is None
    tally.tell(waiting_trades=3)
    tally.add(BatchRecord("query", 0, watermark=datetime.fromtimestamp(9, UTC)))
    tally.add(BatchRecord("query", 1))
    assert (tally.metrics().waiting_trades, tally.metrics().watermark_s) == (3, 9)
