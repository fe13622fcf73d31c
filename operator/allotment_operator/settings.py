"""What an administrator may set about the operator; read once at the start (`allotment_kube.program.settings`)."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from allotment_kube.program.settings import COMMON_OPTIONS, NAMESPACE, ProgramSettings, Sources


class Settings(ProgramSettings):
    """The operator's settings."""

    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """How many resources are worked on at once. More helps where services are slow to answer."""

    resync_seconds: Annotated[float, Field(ge=5, le=86_400)] = 300
    """How often a resource at rest is looked at again, and all kinds are listed. A lost event costs at most this."""

    probe_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    """How often a running service is asked whether clients can use it."""

    dns_namespace: Annotated[str, Field(pattern=NAMESPACE)] = "kube-system"
    """Where the pods of the cluster's name servers are: tenants' pods may ask these."""

    dns_port: Annotated[int, Field(ge=1, le=65535)] = 53
    """Port on which those pods listen, whatever their Service's port is."""

    allow_loopback_controllers: bool = False
    """Whether a JenkinsAgentPool may name a controller on the operator's own machine (127.0.0.0/8, ::1). For trials
    with a controller beside the operator; in a cluster it would open the operator's own pod to tenants."""


def from_command_line(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the command line and all that it points to; `--help` lists every setting.

    Raises:
        SettingsError: the file cannot be read, or a value is wrong.
    """
    sources = Sources.of(
        Settings,
        arguments,
        environment,
        program="allotment-operator",
        description="Turns tenants' custom resources into running services and looks after them for life.",
        options=(*COMMON_OPTIONS, "workers"),
    )
    return sources.read()
