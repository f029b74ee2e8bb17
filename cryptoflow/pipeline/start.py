"""Where an aggregation starts, by what Kafka and Cassandra say; the rules are those of `place`."""

from datetime import datetime, timedelta

from msgspec.structs import replace

from cryptoflow.kafka_io.log import open_log
from cryptoflow.kafka_io.records import cut_of
from cryptoflow.model.offsets import covers
from cryptoflow.model.window import EPOCH
from cryptoflow.pipeline.place import first_start, next_start, start_behind_cut
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark.checkpoint import fingerprint
from cryptoflow.tables.ledger import Ledger
from cryptoflow.tables.progress import Progress, newest_of_others
from cryptoflow.tables.reader import newest_candle, query_ids


def start_of(kafka: KafkaSettings, settings: SparkSettings, ledger: Ledger, tables: str) -> Progress:
    """Where to go on, or to begin, which is then put down; to be asked once the ledger is claimed.

    Args:
        tables: the id of the tables.

    Raises:
        KafkaError, CassandraError: they do not answer, or refuse something.
    """
    with open_log(kafka) as log:
        begins = log.begins()
    stored = ledger.stored()
    if stored is None or stored.tables != tables:
        whole_from = cut_of(kafka, kafka.topic, begins).whole_from(settings.ahead_s)
        at = replace(first_start(begins, whole_from, _kept_until(ledger, tables), settings.window_s), tables=tables)
        ledger.begin(at)
        return at
    at = next_start(stored, begins)
    if covers(at.begins, begins):
        return at
    whole_from = cut_of(kafka, kafka.topic, begins).whole_from(settings.ahead_s)
    return start_behind_cut(at, begins, whole_from, settings.window_s)


def _kept_until(ledger: Ledger, tables: str) -> datetime:
    """The end of the newest window with a candle that is not known to be out of this topic."""
    session, place = ledger.session, ledger.place
    kept = newest_of_others(session, place, tables)
    if kept > EPOCH:
        return kept
    # Version 0.2.0 kept its progress elsewhere; its queries' names tell of which topic they were.
    source = f"{place.topic}-{fingerprint(place.topic_id, tables)}/"
    if any(query.startswith(source) for query in query_ids(session)):
        return EPOCH
    newest = newest_candle(session, place.window_s)
    return EPOCH if newest is None else newest + timedelta(seconds=place.window_s)
