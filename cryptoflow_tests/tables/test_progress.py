"""The laws of progress in a real Cassandra: read as it was written, by the newest holder only, and by the hour."""

import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cassandra.cluster import Session

from cryptoflow.errors import LeaseLostError
from cryptoflow.model.window import EPOCH
from cryptoflow.tables.pages import reached
from cryptoflow.tables.progress import (
    Bounds,
    Place,
    Progress,
    bounds,
    claim,
    newest_of_others,
    read,
    read_offsets,
    write,
    write_offsets,
)

NOON = datetime(2021, 1, 8, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def session(shared_session: Session) -> Session:
    return shared_session


@pytest.fixture
def place() -> Place:
    """Of a topic that no other test has."""
    return Place(60, "trades", uuid.uuid4().hex)


def done(finished: datetime, offset: int, begin: int | None = None, **more: object) -> Progress:
    begins = {0: offset if begin is None else begin, 1: 7}
    return msgspec.structs.replace(Progress(finished, {0: offset, 1: 7}, begins), **more)


def test_before_anything_was_committed_there_is_none(session: Session, place: Place) -> None:
    assert read(session, place) is None
    claim(session, place, 1)
    assert read(session, place) is None
    assert bounds(session, place, NOON, NOON + HOUR) == Bounds(None, None)


def test_of_topics_of_one_name_the_furthest_tells_how_far_it_has_come(session: Session) -> None:
    topic = uuid.uuid4().hex
    for number, finished in enumerate([EPOCH, EPOCH, NOON]):  # made anew before a window of the first was finished
        place = Place(60, topic, uuid.uuid4().hex)
        claim(session, place, 1)
        write(session, place, 1, Progress(finished, {0: number}, {}))
        found = reached(session, 60, topic)
        assert found is not None
        assert (found.finished, found.offsets == {0: 2}) == (finished, finished == NOON)


def test_it_is_read_as_it_was_written(session: Session, place: Place) -> None:
    whole = Progress(NOON, {0: 5, 1: 0}, {0: 3, 1: 0}, NOON - HOUR, NOON + MINUTE, "a query", "tables", "a name", 4)
    bare = Progress(EPOCH, {}, {})
    claim(session, place, 1)
    for each in (whole, bare, whole):
        write(session, place, 1, each)
        assert read(session, place) == each


def test_each_topic_and_window_has_its_own(session: Session, place: Place) -> None:
    others = [place._replace(window_s=300), place._replace(topic_id=uuid.uuid4().hex)]
    for number, each in enumerate([place, *others]):
        claim(session, each, 1)
        write(session, each, 1, done(NOON, number))
    found = [read(session, each) for each in (place, *others)]
    assert found == [done(NOON, number) for number in range(3)]


def test_none_with_a_lower_fence_can_write_or_claim_it(session: Session, place: Place) -> None:
    claim(session, place, 2)
    write(session, place, 2, done(NOON, 5))
    claim(session, place, 7)
    for fence in (1, 2, 6):
        with pytest.raises(LeaseLostError, match="taken over by another run"):
            write(session, place, fence, done(NOON + HOUR, 9))
        with pytest.raises(LeaseLostError, match="taken over by another run"):
            claim(session, place, fence)
    assert read(session, place) == done(NOON, 5)
    write(session, place, 7, done(NOON + HOUR, 6))
    assert read(session, place) == done(NOON + HOUR, 6)


def test_nobody_writes_who_has_not_claimed_it(session: Session, place: Place) -> None:
    with pytest.raises(LeaseLostError):
        write(session, place, 1, done(NOON, 5))
    assert read(session, place) is None


def test_who_does_not_know_whether_a_claim_came_through_may_claim_again(session: Session, place: Place) -> None:
    claim(session, place, 3)
    claim(session, place, 3)
    claim(session, place, 4)
    claim(session, place, 4)
    write(session, place, 4, done(NOON, 5))
    write(session, place, 4, done(NOON, 5))


def test_the_newest_candle_of_other_topics_is_told_for_the_same_tables_and_window(
    session: Session, place: Place
) -> None:
    tables = uuid.uuid4().hex

    def commit(each: Place, newest: datetime, tables: str = tables) -> None:
        claim(session, each, 1)
        write(session, each, 1, done(NOON, 5, newest=newest, tables=tables))

    def other(window_s: int = 60, topic: str = "trades") -> Place:
        return Place(window_s, topic, uuid.uuid4().hex)

    assert newest_of_others(session, place, tables) == EPOCH
    commit(place, NOON + 9 * HOUR)
    assert newest_of_others(session, place, tables) == EPOCH
    commit(other(), NOON - HOUR)
    commit(other(topic="elsewhere"), NOON)
    commit(other(), NOON + 2 * HOUR, "other tables")
    commit(other(window_s=300), NOON + 3 * HOUR)
    claim(session, other(), 1)
    assert newest_of_others(session, place, tables) == NOON


def test_where_the_trades_of_hours_lie_is_told_by_the_hours_before_and_after(session: Session, place: Place) -> None:
    #  finished   11:10   11:50 | 12:20   12:55 |        | 14:05
    #  offsets     10      20   |  30      40   |        |  50
    #  begins       5      15   |  25      35   |        |  45
    claim(session, place, 1)
    assert bounds(session, place, NOON, NOON + HOUR) == Bounds(None, None)
    for number, minutes in enumerate([-50, -10, 20, 55, 125], 1):
        write(session, place, 1, done(NOON + minutes * MINUTE, number * 10, number * 10 - 5))

    def first_partition(start: datetime, end: datetime) -> tuple[int | None, ...]:
        return tuple(None if edge is None else edge[0] for edge in bounds(session, place, start, end))

    # Nothing before 15 was of an open window when the last one of 11:50 was finished: those of 12:00 come after it.
    assert first_partition(NOON, NOON + HOUR) == (15, 50)
    assert first_partition(NOON - HOUR, NOON) == (None, 40)
    assert first_partition(NOON + HOUR, NOON + 2 * HOUR) == (35, 50)
    assert first_partition(NOON + 30 * MINUTE, NOON + HOUR) == (15, 50)
    assert first_partition(NOON + 2 * HOUR, NOON + 3 * HOUR) == (35, None)
    assert first_partition(NOON, NOON + 3 * HOUR) == (15, None)


def test_how_far_a_topic_is_followed_is_of_its_tables_and_no_progress_of_an_aggregation(
    session: Session, place: Place
) -> None:
    tables = uuid.uuid4().hex
    assert read_offsets(session, place, tables) == {}
    claim(session, place, 2)
    for offsets in ({0: 5}, {0: 7, 1: 2}):
        write_offsets(session, place, 2, offsets, tables)
        assert read_offsets(session, place, tables) == offsets
    assert read_offsets(session, place, "other tables") == {}
    assert read(session, place) is None
    assert newest_of_others(session, place._replace(topic_id=uuid.uuid4().hex), tables) == EPOCH
    with pytest.raises(LeaseLostError):
        write_offsets(session, place, 1, {0: 9}, tables)
    assert read_offsets(session, place, tables) == {0: 7, 1: 2}
