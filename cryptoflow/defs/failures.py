"""Our errors, as Dagster shows them."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from cryptoflow.errors import CryptoflowError


@contextmanager
def as_failure() -> Iterator[None]:
    """Have a CryptoflowError of the block fail the step with its sentence, whatever its policy of retries says.

    Raises:
        dg.Failure: for each CryptoflowError.
    """
    try:
        yield
    except CryptoflowError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
