"""`allotment-operator`: reads its settings, waits for its Lease, works until told to stop.

Exit codes: 0 stopped as asked; 1 the Lease was lost or a part failed (start it again); 2 the settings or the
credentials cannot be used (change them first).
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from allotment_kube.client import Client
from allotment_kube.configuration import Configuration, load_configuration
from allotment_kube.errors import ConfigurationError, KubernetesError, LeadershipLostError
from allotment_kube.lease import Lease, LeaseSettings, unique_identity
from allotment_operator import logs
from allotment_operator.handlers import QuietRetries
from allotment_operator.kind import Key
from allotment_operator.metrics import Metrics
from allotment_operator.program import Foundations, Operator, install_signals
from allotment_operator.reconcile.queue import WorkQueue
from allotment_operator.server import Readiness, serving
from allotment_operator.settings import Settings, SettingsError, from_command_line

_logger = logging.getLogger(__name__)
LEASE: Final = "allotment-operator"
GRACE_SECONDS: Final = 15.0
"""How long a reign may take to end by itself when told to stop."""

Reign = Callable[[], Coroutine[Any, Any, None]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    try:
        settings = from_command_line(sys.argv[1:] if arguments is None else arguments)
        logs.configure(settings.log_level, settings.log_format)
        logging.getLogger("kopf.objects").addFilter(QuietRetries())
        configuration = load_configuration(settings.kubeconfig)
    except (SettingsError, ConfigurationError) as error:
        print(f"allotment-operator: {error}", file=sys.stderr)  # noqa: T201 - logging may not be set up
        return 2
    try:
        asyncio.run(run(settings, configuration))
    except LeadershipLostError as error:
        _logger.error("the Lease is lost, another operator may be at work: %s", error)  # noqa: TRY400 - no fault
        return 1
    except Exception:
        _logger.exception("a part of the operator failed; it must be started afresh")
        return 1
    return 0


async def run(settings: Settings, configuration: Configuration) -> None:
    """Serve health and metrics, wait for the Lease, and work while it is held.

    Raises:
        LeadershipLostError: the Lease was lost.
        ExceptionGroup: a part failed.
    """
    queue: WorkQueue[Key] = WorkQueue()
    metrics, readiness, stop = Metrics(queue_depth=queue.__len__), Readiness(), asyncio.Event()
    base = Foundations(settings, configuration, metrics, readiness, queue)
    install_signals(stop)
    identity = settings.identity or unique_identity()
    async with Client.connect(configuration, user_agent="allotment-operator", observer=metrics) as client:
        times = _times(settings.lease_seconds)
        lease = Lease(client, LEASE, namespace=settings.namespace, identity=identity, settings=times)
        # Made before the Lease is taken: loading the services takes seconds, in which nobody would renew it.
        operator = Operator(client.guarded(lease), base, identity=identity)

        async def reign() -> None:
            metrics.leader.set(1)
            await operator.run(stop)

        async with serving(
            settings.http_host, settings.http_port, metrics=metrics, readiness=readiness, publish=operator.publish
        ) as port:
            logs.event(_logger, "started", port=port, server=configuration.server, identity=identity)
            await _until(stop, lease, reign)


async def _until(stop: asyncio.Event, lease: Lease, reign: Reign) -> None:
    """Hold the Lease and reign, until told to stop or until that ends by itself."""
    leading = asyncio.create_task(lease.run(reign), name="lease")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set() and not leading.done():
        # A standby is simply cancelled; at work, kopf sees the flag too and the reign ends by itself.
        await asyncio.wait({leading}, timeout=GRACE_SECONDS if lease.is_leader else 0.0)
        leading.cancel()
    stopping.cancel()
    await asyncio.wait({leading, stopping})
    if not leading.cancelled() and (error := leading.exception()) is not None and not _only_stopped(stop, error):
        raise error


def _only_stopped(stop: asyncio.Event, error: BaseException) -> bool:
    """Say whether an error is only the echo of being told to stop."""
    return stop.is_set() and isinstance(error, KubernetesError | asyncio.CancelledError)


def _times(seconds: float) -> LeaseSettings:
    """Return the Lease's times for a duration, in the usual proportions."""
    return LeaseSettings(
        duration=seconds, renew_deadline=seconds * 2 / 3, retry_period=seconds * 2 / 15, request_timeout=seconds / 5
    )


if __name__ == "__main__":
    sys.exit(main())
