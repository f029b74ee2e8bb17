"""The exceptions of cryptoflow, all in one tree.

A message is one sentence that a user can act on: what is wrong, and the way out. It never holds a secret.
"""


class CryptoflowError(Exception):
    """Whatever cryptoflow itself reports; the command line prints it as one line and exits with 1."""


class ConfigError(CryptoflowError):
    """A setting has a value that can't be used."""


class PrerequisiteError(CryptoflowError):
    """The machine lacks something: Java, jars, memory, disk, a free port."""


class ServiceError(CryptoflowError):
    """A local service (Kafka, Cassandra, the simulator) could not be started or ended."""


class FeedError(CryptoflowError):
    """The feed can't be used."""


class UnauthorizedError(FeedError):
    """The feed refused the API key; never retried."""


class FeedUnreachableError(FeedError):
    """The feed could not be reached, or broke off, for longer than it may."""


class FeedDisconnectedError(FeedError):
    """The feed broke off, went silent or turned the socket away for now: worth another try."""


class FeedBusyError(FeedDisconnectedError):
    """The feed asks for fewer requests.

    Attributes:
        retry_after_s: how long it asks to wait, in s; None: it does not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class FeedRefusedError(FeedError):
    """The feed refuses this machine, or this request, for good; never retried."""


class UnreadableFrameError(FeedError):
    """A frame is no frame of the feed's protocol; the message is the reason that goes into its dead letter."""


class KafkaError(CryptoflowError):
    """Kafka refused a request."""


class KafkaUnreachableError(KafkaError):
    """No broker answered in time."""


class DeliveryError(KafkaError):
    """A trade was handed to Kafka and not acknowledged."""


class CassandraError(CryptoflowError):
    """Cassandra refused a request."""


class CassandraUnreachableError(CassandraError):
    """No Cassandra node answered in time."""


class CassandraLoginError(CassandraError):
    """Cassandra refused the user or the password."""


class SchemaMismatchError(CassandraError):
    """A table of that name exists with other columns or another primary key."""


class AlreadyRunningError(CryptoflowError):
    """Another run does the same work already."""


class LeaseLostError(CryptoflowError):
    """Another run took this one's work over while it did not answer."""


class AggregationError(CryptoflowError):
    """The Spark query failed."""


class BacklogError(AggregationError):
    """The stream is too far behind to go on as one: what it lacks is for batches."""


class BadParameterError(CryptoflowError):
    """A parameter of a request to the simulator can't be read."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class ParameterError(CryptoflowError):
    """A parameter of a request to the API has a value that can't be used, or names what is not there.

    Attributes:
        name: the parameter's.
        missing: it names what is not there.
    """

    def __init__(self, name: str, fault: str, *, missing: bool = False) -> None:
        super().__init__(f"{name}: {fault}.")
        self.name, self.missing = name, missing


class SocketLeftError(CryptoflowError):
    """The venue ends a socket."""

    def __init__(self, frames: list[bytes] | tuple[bytes, ...] = (), code: int = 1000, reason: str = "") -> None:
        super().__init__(reason)
        self.frames = frames
        """Sent before the close."""
        self.code = code
        self.reason = reason
