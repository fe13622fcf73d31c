"""Which failures of a test on a cluster are worth a second try.

A control plane on a busy machine can be late beyond every patience, or not answer at all: that says nothing of what is
tested, and the test may try once more. Whatever was *seen* and is wrong counts at once: a failed assertion, a property
with a counterexample, an exception of the program. Where coming too late is itself what a test is about, as for a
history that has to converge, only a machine at fault (`infrastructure_failed`) brings a second try.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Final

import aiohttp
import urllib3
from _pytest.outcomes import Failed

from allotment_kube import errors
from allotment_local.errors import LocalClusterError

_MACHINERY: Final = (
    *(LocalClusterError, ConnectionError, urllib3.exceptions.HTTPError, aiohttp.ClientConnectionError),
    *(errors.UnreachableError, errors.UnavailableError, errors.OutcomeUnknownError, errors.ThrottledError),
)
_SAYS_MACHINERY: Final = re.compile(
    r"connection refused|connection reset|TLS handshake timeout|i/o timeout|unexpected EOF|etcdserver: "
    r"|currently unable to handle the request|context deadline exceeded",
    re.IGNORECASE,
)
_SAYS_LATE: Final = re.compile(r"timed out waiting")


class LateError(AssertionError):
    """What a test waited for did not come in its time."""


def infrastructure_failed(error: BaseException) -> bool:
    """Whether the control plane or the way to it failed, not what was tested."""
    return _all(error, _is_machinery)


def late_or_infrastructure(error: BaseException) -> bool:
    """Whether nothing wrong was seen: what was awaited only has not come, or the control plane failed."""
    return _all(error, lambda each: _is_machinery(each) or _is_late(each))


def _is_machinery(error: BaseException) -> bool:
    return isinstance(error, _MACHINERY) or (isinstance(error, Failed) and bool(_SAYS_MACHINERY.search(str(error))))


def _is_late(error: BaseException) -> bool:
    late = isinstance(error, LateError | TimeoutError | subprocess.TimeoutExpired)
    return late or (isinstance(error, Failed) and bool(_SAYS_LATE.search(str(error))))


def _all(error: BaseException, fits: Callable[[BaseException], bool]) -> bool:
    """Whether it fits all that were raised together."""
    return all(map(fits, _leaves(error)))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
