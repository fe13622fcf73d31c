"""What a service's kind may use to reach the world, handed to it when it is made."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allotment_kube.client import Client


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The world as a kind's `probe` and `perform` meet it.

    Attributes:
        client: the API server, with the operator's own rights.
        namespace: the operator's own namespace, where authorities' keys are kept.
        simulated: whether a node, by name, is simulated: nothing listens there.
        clock: the present time, with zone.
        api_server: IP addresses and ports at which pods reach the API server, as far as they are known.
        resources: the custom resources of a kind in a namespace, as last seen: no request, and late by as much as a
            watch is.
        allow_loopback_controllers: whether a JenkinsAgentPool's controller may be on the operator's own machine.
    """

    client: Client
    namespace: str
    simulated: Callable[[str], bool]
    clock: Callable[[], dt.datetime]
    api_server: Callable[[], tuple[tuple[str, int], ...]] = tuple
    resources: Callable[[str, str], Sequence[Mapping[str, Any]]] = lambda _kind, _namespace: ()
    allow_loopback_controllers: bool = False
