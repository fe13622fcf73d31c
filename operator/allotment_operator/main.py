"""`allotment-operator`: reads its settings, waits for its Lease, works until told to stop.

Exit codes: 0 stopped as asked; 1 the Lease was lost or a part failed (start it again); 2 the settings or the
credentials cannot be used (change them first).
"""

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import Final

from allotment_kube.client import Client
from allotment_kube.configuration import Configuration, load_configuration
from allotment_kube.errors import ConfigurationError, LeadershipLostError
from allotment_kube.lease import Lease, unique_identity
from allotment_kube.program import logs
from allotment_kube.program.reign import install_signals, lease_times, reign_until
from allotment_kube.program.server import Readiness, serving
from allotment_kube.program.settings import SettingsError
from allotment_operator.handlers import QuietRetries
from allotment_operator.kind import Key
from allotment_operator.metrics import Metrics
from allotment_operator.program import Foundations, Operator
from allotment_operator.reconcile.queue import WorkQueue
from allotment_operator.settings import Settings, from_command_line

_logger = logging.getLogger(__name__)
LEASE: Final = "allotment-operator"
GRACE_SECONDS: Final = 15.0
"""How long a reign may take to end by itself when told to stop."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    try:
        settings = from_command_line(sys.argv[1:] if arguments is None else arguments)
        logs.configure(settings.log_level, settings.log_format, quiet=["kopf"])
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
    identity = unique_identity(settings.identity)
    async with Client.connect(configuration, user_agent="allotment-operator", observer=metrics) as client:
        times = lease_times(settings.lease_seconds)
        lease = Lease(client, LEASE, namespace=settings.namespace, identity=identity, settings=times)
        # Made before the Lease is taken: loading the services takes seconds, in which nobody would renew it.
        operator = Operator(client.guarded(lease), base, identity=identity)

        async def reign() -> None:
            metrics.leader.set(1)
            await operator.run(stop)

        def scrape() -> bytes:
            operator.publish()
            return metrics.text()

        async with serving(settings.http_host, settings.http_port, readiness=readiness, scrape=scrape) as port:
            logs.event(_logger, "started", port=port, server=configuration.server, identity=identity)
            # At work, kopf sees the flag too and the reign ends by itself.
            await reign_until(stop, lease, reign, grace=GRACE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
