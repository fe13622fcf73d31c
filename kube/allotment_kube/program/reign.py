"""A reign: what a program does while it holds the Lease, from taking it to being told to stop or losing it."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from allotment_kube.errors import KubernetesError
from allotment_kube.lease import Lease, LeaseSettings

Reign = Callable[[], Coroutine[Any, Any, None]]


def install_signals(stop: asyncio.Event) -> None:
    """Let SIGTERM and SIGINT end the program in good order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def lease_times(seconds: float) -> LeaseSettings:
    """The Lease's times for a duration, in the usual proportions."""
    return LeaseSettings(
        duration=seconds, renew_deadline=seconds * 2 / 3, retry_period=seconds * 2 / 15, request_timeout=seconds / 5
    )


async def reign_until(stop: asyncio.Event, lease: Lease, reign: Reign, *, grace: float) -> None:
    """Hold the Lease and reign, until told to stop or until that ends by itself; cancelled, both are over first.

    Args:
        stop: set by a signal; a reign that minds it may end by itself.
        lease: waited for, and released at the end.
        reign: runs while the Lease is held.
        grace: seconds that a reign may take to end by itself when told to stop.

    Raises:
        LeadershipLostError: the Lease was lost; exit the process.
        Exception: whatever the reign failed with.
    """
    leading = asyncio.create_task(lease.run(reign), name="lease")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set() and not leading.done():
            # A standby is simply cancelled.
            await asyncio.wait({leading}, timeout=grace if lease.is_leader else 0.0)
    finally:
        leading.cancel()
        stopping.cancel()
        await asyncio.gather(leading, stopping, return_exceptions=True)
    if not leading.cancelled() and (error := leading.exception()) is not None and not _only_stopped(stop, error):
        raise error


def _only_stopped(stop: asyncio.Event, error: BaseException) -> bool:
    """Say whether an error is only the echo of being told to stop."""
    return stop.is_set() and isinstance(error, KubernetesError | asyncio.CancelledError)
