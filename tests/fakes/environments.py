"""What the fixtures of client tests hand out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from allotment_kube import Client
from fakes.api_server import FakeApiServer
from fakes.faults import FaultPlan
from fakes.in_process import InProcessTransport


class Cluster(Protocol):
    """What these tests need of the shared fixture `cluster`."""

    kubeconfig: Path


@dataclass
class Fake:
    """The fake server, its faults, and a client of it."""

    server: FakeApiServer
    plan: FaultPlan
    transport: InProcessTransport
    client: Client


@dataclass(frozen=True)
class Live:
    """The real API server and a namespace of one's own on it."""

    client: Client
    namespace: str
    kubeconfig: Path
