"""The way to Cassandra: a session, the schema in place, and the driver's errors as ours.

The driver's default event loop is used: libev, which its wheels bring along for Python 3.11 to 3.14. Its loop
over asyncio can't do TLS, and asyncore is gone since Python 3.12.
"""

import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cassandra import (
    AuthenticationFailed,
    ConfigurationException,
    ConsistencyLevel,
    CoordinationFailure,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    ProtocolVersion,
    Timeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.connection import ConnectionException
from cassandra.policies import DCAwareRoundRobinPolicy, ExponentialReconnectionPolicy, TokenAwarePolicy
from cassandra.protocol import (
    ErrorMessage,
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    ServerError,
)

from cryptoflow.errors import (
    CassandraError,
    CassandraLoginError,
    CassandraUnreachableError,
    ConfigError,
    SchemaMismatchError,
)
from cryptoflow.runtime.retry import Result, retried
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.schema import (
    TABLES,
    Table,
    add_columns,
    create_keyspace,
    create_table,
    differences,
    primary_key,
    shorten_grace,
)

CONNECT_TIMEOUT_S = 8.0
"""For all contact points together: it leaves room to say so within 10 s."""

REQUEST_TIMEOUT_S = 20.0
"""Longer than the server's own limits, so that its answer, which says more, comes first."""

RECONNECT_AT_MOST_S = 2.0
"""Between two tries to reach a node that went away; the driver's default grows to ten minutes."""

SCHEMA_TRY_S = 3.0
"""For how long it is tried again to create what is missing.

Of two that do so at once, one may be refused, or see a keyspace listed that can't be used yet; a moment later
all is there.
"""

SCHEMA_CONFLICTS = (InvalidRequest, ConfigurationException, ServerError, OperationTimedOut, Timeout)

TRANSIENT_ERRORS = (
    NoHostAvailable,
    OperationTimedOut,
    Timeout,
    Unavailable,
    CoordinationFailure,
    ConnectionException,
    OverloadedErrorMessage,
    IsBootstrappingErrorMessage,
    ServerError,
)
"""What may go away by itself."""


def keyspace_name(settings: CassandraSettings) -> str:
    """The keyspace as Cassandra stores it: CQL folds a name without quotes to lower case."""
    return settings.keyspace.lower()


@contextmanager
def connect(settings: CassandraSettings) -> Iterator[Session]:
    """A session in the settings' keyspace (in none where it does not exist yet), closed on leaving.

    Whatever the driver raises in the `with` body becomes one of our errors, too.

    Raises:
        CassandraUnreachableError: no contact point answered in 10 s.
        CassandraLoginError: user and password are refused, or missing.
        CassandraError: the cluster refused something else.
        ConfigError: the CA file can't be read.
    """
    with our_errors(settings), _closing(_cluster(settings)) as cluster:
        session = cluster.connect()
        with suppress(InvalidRequest):  # it says that there is no such keyspace: ensure_schema makes it
            session.set_keyspace(keyspace_name(settings))
        yield session


@contextmanager
def _closing(cluster: Cluster) -> Iterator[Cluster]:
    try:
        yield cluster
    finally:
        cluster.shutdown()


def _cluster(settings: CassandraSettings) -> Cluster:
    _quiet_driver()
    hosts = settings.contact_points.split(",")
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(settings.datacenter or "")),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=REQUEST_TIMEOUT_S,
    )
    return Cluster(
        hosts,
        port=settings.port,
        protocol_version=ProtocolVersion.V4,  # of Cassandra 3 to 5; untold, the driver tries many
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        auth_provider=_login(settings),
        ssl_context=_tls(settings),
        connect_timeout=CONNECT_TIMEOUT_S / len(hosts),
        control_connection_timeout=CONNECT_TIMEOUT_S / len(hosts),
        reconnection_policy=ExponentialReconnectionPolicy(0.5, RECONNECT_AT_MOST_S, max_attempts=None),
    )


def _quiet_driver() -> None:
    # what its warnings tell reaches the user as an exception, once, instead of as a traceback per try
    log = logging.getLogger("cassandra")
    if log.level == logging.NOTSET:
        log.setLevel(logging.CRITICAL)


def _login(settings: CassandraSettings) -> PlainTextAuthProvider | None:
    if settings.username is None:
        return None
    return PlainTextAuthProvider(settings.username, settings.password or "")


def _tls(settings: CassandraSettings) -> ssl.SSLContext | None:
    if settings.ca_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise ConfigError(
            f"The CA file {settings.ca_file} can't be read ({error.strerror or error}): "
            "set CASSANDRA_CA_FILE to the PEM file of the authority that signed the cluster's certificates."
        ) from None
    # nodes are reached by addresses that they announce and certificates seldom name: the CA vouches for them
    context.check_hostname = False
    return context


@contextmanager
def our_errors(settings: CassandraSettings) -> Iterator[None]:
    """Turns the driver's errors into ours."""
    try:
        yield
    except (DriverException, NoHostAvailable, ConnectionException, ErrorMessage) as error:
        raise translated(error, settings) from None


def translated(error: Exception, settings: CassandraSettings) -> CassandraError:
    """The driver's error as one of ours; no message holds the password."""
    if any(isinstance(cause, AuthenticationFailed) for cause in _causes(error)):
        return CassandraLoginError(
            f"Cassandra at {address(settings)} refuses the login of {settings.username or 'nobody'}; "
            "set CASSANDRA_USERNAME and CASSANDRA_PASSWORD."
        )
    # the driver keeps only the text of what the handshake raised
    if any("CERTIFICATE_VERIFY_FAILED" in str(cause) for cause in _causes(error)):
        return CassandraUnreachableError(
            f"Cassandra at {address(settings)} has no certificate by the authority in {settings.ca_file}; "
            "set CASSANDRA_CA_FILE to the PEM file of the authority that signed it."
        )
    if settings.datacenter and isinstance(error, NoHostAvailable) and isinstance(error.errors, list):
        return CassandraUnreachableError(
            f"No node of Cassandra at {address(settings)} answers in the data center {settings.datacenter}; "
            "set CASSANDRA_DATACENTER to one that `nodetool status` names, or leave it out."
        )
    if isinstance(error, NoHostAvailable | OperationTimedOut | ConnectionException | UnresolvableContactPoints):
        return unreachable(settings)
    if isinstance(error, Unauthorized):
        return CassandraError(
            f"Cassandra does not let {settings.username or 'nobody'} do that: {_text(error)}; "
            f"let an administrator grant it, or create the keyspace {keyspace_name(settings)} and its tables."
        )
    return CassandraError(f"Cassandra at {address(settings)} refused a request: {_text(error)}.")


def _causes(error: Exception) -> list[object]:
    # of a session that finds no node it is a list of their addresses
    found = error.errors if isinstance(error, NoHostAvailable) else None
    return [error, *found.values()] if isinstance(found, dict) else [error]


def _text(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error)
    # the driver prefixes the server's own words with: Error from server: code=2200 [...] message="..."
    return text.partition('message="')[2].rstrip('"') or text


def unreachable(settings: CassandraSettings) -> CassandraUnreachableError:
    """The error that says that nothing answers, and what to do."""
    return CassandraUnreachableError(
        f"Cassandra at {address(settings)} does not answer; "
        "start it with `cryptoflow services up` or set CASSANDRA_CONTACT_POINTS."
    )


def address(settings: CassandraSettings) -> str:
    """HOST:PORT, comma-separated."""
    return ",".join(f"{host}:{settings.port}" for host in settings.contact_points.split(","))


def ensure_schema(session: Session, settings: CassandraSettings) -> None:
    """Creates keyspace, tables and later columns where they are missing, and puts the session into the keyspace.

    Any number of programs may do this at once. Nothing is created that is there, so a user who may not create
    anything can work with tables that an administrator made.

    Raises:
        SchemaMismatchError: a table is there with other columns or another key.
        CassandraError: the cluster refuses it.
    """
    retried(lambda: _ensure_schema(session, settings), SCHEMA_CONFLICTS, SCHEMA_TRY_S)


def _ensure_schema(session: Session, settings: CassandraSettings) -> None:
    keyspace = keyspace_name(settings)
    if not _exists(session, keyspace):
        session.execute(create_keyspace(keyspace, settings.replication, settings.datacenter))
    for table in TABLES:
        _ensure_table(session, table, settings)
    _shorten_graces(session, keyspace)
    session.set_keyspace(keyspace)


def _ensure_table(session: Session, table: Table, settings: CassandraSettings) -> None:
    keyspace = keyspace_name(settings)
    if not (found := _columns(session, keyspace, table.name)):
        session.execute(create_table(table, keyspace, settings.ttl_s))
        found = _columns(session, keyspace, table.name)
    if added := add_columns(table, keyspace, found):
        session.execute(added)
        found = _columns(session, keyspace, table.name)
    if faults := differences(table, found):
        raise SchemaMismatchError(
            f"The table {keyspace}.{table.name} is another one ({'; '.join(faults)}): "
            f"set CASSANDRA_KEYSPACE to another keyspace, or save its rows and drop it. "
            f"Its primary key should be {primary_key(table)}."
        )


def _shorten_graces(session: Session, keyspace: str) -> None:
    cql = "SELECT table_name, default_time_to_live, gc_grace_seconds FROM system_schema.tables WHERE keyspace_name = ?"
    tables = {table.name: table for table in TABLES}
    for name, *times_s in session.execute(session.prepare(cql), [keyspace]):
        if name in tables and (altered := shorten_grace(tables[name], keyspace, *times_s)):
            with suppress(Unauthorized):  # whoever made the tables for a user of few rights may do it
                session.execute(altered)


def patiently(call: Callable[[], Result], settings: CassandraSettings) -> Result:
    """What `call` gives, which is tried again while Cassandra is away; it must do no harm to do it twice.

    Raises:
        CassandraUnreachableError: Cassandra was away for `retry_for_s`.
    """
    try:
        return retried(call, TRANSIENT_ERRORS, settings.retry_for_s)
    except TRANSIENT_ERRORS:
        raise unreachable(settings) from None


def _exists(session: Session, keyspace: str) -> bool:
    cql = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?"
    return session.execute(session.prepare(cql), [keyspace]).one() is not None


def _columns(session: Session, keyspace: str, table: str) -> dict[str, tuple[str, str, str]]:
    cql = (
        "SELECT column_name, type, kind, position, clustering_order FROM system_schema.columns"
        " WHERE keyspace_name = ? AND table_name = ?"
    )
    rows = session.execute(session.prepare(cql), [keyspace, table])
    return {row.column_name: (row.type, _placed(row.kind, row.position), row.clustering_order) for row in rows}


def _placed(kind: str, position: int) -> str:
    return kind if position < 0 else f"{kind}#{position}"
