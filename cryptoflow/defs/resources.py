"""The resources `feed`, `kafka`, `spark` and `cassandra`: the settings, as Dagster configures them.

A field that the run config leaves out comes from the environment, else from its default. What a run config may not
say (passwords, files of the machine) is no field, or refused (`cryptoflow.trust`).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from cryptoflow.errors import ConfigError
from cryptoflow.feeds.source import venues_of
from cryptoflow.settings import (
    CassandraSettings,
    FeedSettings,
    KafkaSettings,
    Settings,
    SparkSettings,
    api_key,
    in_run_config,
    is_simulated,
    load,
    settings_of,
)
from cryptoflow.trust import load_trusted

PLAIN_TYPES = (int, float, str)
"""What Dagster takes a field by; its limits are checked when the settings are loaded."""


def fields_of(model: type[Settings]) -> Any:
    """A resource class that has a field for each setting of `model`, all of them optional."""
    fields: dict[str, Any] = {
        name: (_plain(info.annotation) | None, Field(None, description=f"{info.description} [{env}]"))
        for name, info, env in settings_of(model)
        if in_run_config(info)
    }
    return create_model(f"{model.__name__}Fields", __base__=dg.ConfigurableResource, __module__=__name__, **fields)


def _plain(annotation: Any) -> type:
    return annotation if annotation in PLAIN_TYPES else str


def _given(resource: Any, model: type[Settings]) -> dict[str, Any]:
    return {name: getattr(resource, name) for name, info, _ in settings_of(model) if in_run_config(info)}


class FeedResource(fields_of(FeedSettings)):  # type: ignore[misc]
    """Where trades come from."""

    def settings(self) -> FeedSettings:
        """The settings in force; a ConfigError if one can't be used."""
        return load_trusted(FeedSettings, _given(self, FeedSettings))


_OF_ENVIRONMENT: Any = Field(None, description="its source names what is not named; none: that of the environment")


def _source(feed: FeedResource | None) -> FeedSettings | None:
    return feed.settings() if feed else None


class KafkaResource(fields_of(KafkaSettings)):  # type: ignore[misc]
    """The broker and the topics."""

    feed: dg.ResourceDependency[FeedResource | None] = _OF_ENVIRONMENT

    def settings(self) -> KafkaSettings:
        """The settings in force; a ConfigError if one can't be used."""
        return load_trusted(KafkaSettings, _given(self, KafkaSettings), feed=_source(self.feed))


class SparkResource(fields_of(SparkSettings)):  # type: ignore[misc]
    """The Spark session and the query."""

    def settings(self) -> SparkSettings:
        """The settings in force; a ConfigError if one can't be used."""
        return load_trusted(SparkSettings, _given(self, SparkSettings))


class CassandraResource(fields_of(CassandraSettings)):  # type: ignore[misc]
    """The cluster and the keyspace."""

    feed: dg.ResourceDependency[FeedResource | None] = _OF_ENVIRONMENT

    def settings(self) -> CassandraSettings:
        """The settings in force; a ConfigError if one can't be used."""
        return load_trusted(CassandraSettings, _given(self, CassandraSettings), feed=_source(self.feed))


_FEED = FeedResource.configure_at_launch()
"""One for all: a run config of `feed` also rules which topic and keyspace the run works on."""

RESOURCES: dict[str, Any] = {
    "feed": _FEED,
    "kafka": KafkaResource(feed=_FEED),
    "spark": SparkResource(),
    "cassandra": CassandraResource(feed=_FEED),
}


def works_here(run_config: Mapping[str, Any]) -> bool:
    """Whether a run with this config works on the topic and the keyspace of the environment, as kept-alive runs do."""
    configured = run_config.get("resources") or {}
    try:
        return _stores(configured) == _stores({})
    except ConfigError:  # it can't run, or takes a name from a variable
        return False


def _stores(configured: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Brokers, topic, hosts, port and keyspace of a run with this config of its resources."""
    given = {name: (configured.get(name) or {}).get("config") or {} for name in RESOURCES}
    feed = load(FeedSettings, given["feed"])
    kafka = load(KafkaSettings, given["kafka"], feed=feed)
    cassandra = load(CassandraSettings, given["cassandra"], feed=feed)
    return kafka.bootstrap_servers, kafka.topic, cassandra.contact_points, cassandra.port, cassandra.keyspace


def shares_venue(run_config: Mapping[str, Any]) -> bool:
    """Whether a run with this config has trades of a venue that kept-alive runs have, too."""
    configured = ((run_config.get("resources") or {}).get("feed") or {}).get("config") or {}
    try:
        return not _venues(configured).isdisjoint(_venues({}))
    except ConfigError:  # it can't run, or takes the source from a variable: none is launched beside it
        return True


def _venues(given: Mapping[str, Any]) -> set[str]:
    feed = load(FeedSettings, given)
    return {*venues_of(feed, simulated=is_simulated(feed, api_key()))}
