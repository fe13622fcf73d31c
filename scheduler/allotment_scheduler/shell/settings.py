"""What an administrator may set about the scheduler (`allotment_kube.program.settings` says how).

The file is read again when it changes. A version that is wrong is refused as a whole and the last good one stays in
force; fields in `FIXED` take effect at the next start only.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from allotment_kube.program.settings import ProgramSettings, Sources
from allotment_scheduler.core.settings import Settings as CoreSettings

FIXED: Final = frozenset(
    {
        "namespace", "http_host", "http_port", "lease_seconds", "connections", "pod_name", "pod_uid", "kubeconfig",
        "share_policy", "log_format", "api_port", "api_certificate",
    }
)  # fmt: skip
"""Fields whose change needs a restart: they are read at the start alone, or belong to what was set up by them."""
LEAST_LONGEST_GRACE: Final = 300
"""Nobody's grace period is cut below these seconds: data services need as many."""


class Settings(ProgramSettings):
    """The scheduler's settings."""

    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /healthz, /readyz, /statusz and /metrics; 0 takes any free one."""

    api_port: Annotated[int, Field(ge=-1, le=65535)] = 8443
    """Port of the HTTPS API that tells tenants their shares and why their pods wait; 0 takes any free one, -1 none."""

    api_certificate: Path | None = None
    """Folder with the API's tls.crt, tls.key and, where another authority signed them, ca.crt; absent: our own."""

    connections: Annotated[int, Field(ge=8, le=1024)] = 96
    """Bindings under way at once, and 16 more; up to 24 further connections to the API server carry everything else."""

    share_policy: Literal["drf", "hdrf"] = "drf"
    """How shares of inner tenants are compared: drf compares plain sums over the resources that the candidate uses,
    hdrf rescales the children as in Hierarchical DRF (Bhattacharya et al., 2013)."""

    starts_per_cycle: Annotated[int, Field(ge=1, le=10_000)] = 128
    """Pods decided before watches and lease renewals get their turn."""

    coalesce_seconds: Annotated[float, Field(ge=0, le=10)] = 0.01
    """Least time between two cycles: what happens meanwhile is decided together."""

    confirm_seconds: Annotated[float, Field(ge=1, le=600)] = 30
    """How long a binding may take to come back by the watch before the pod is read."""

    eviction_seconds: Annotated[float, Field(ge=1, le=3600)] = 120
    """How long the room for a claimant is held beyond the victims' grace periods before the plan is given up."""

    longest_grace_seconds: Annotated[int, Field(ge=LEAST_LONGEST_GRACE, le=86_400)] = 3600
    """How long an evicted pod has to end, and so long its room is waited for, whatever grace period it names."""

    volume_seconds: Annotated[float, Field(ge=1, le=3600)] = 600
    """How long a pod's room is held while a volume is made for it."""

    minimum_runtime_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300
    """How long a pod has run at least before it can be evicted for fairness between tenants."""

    backoff_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60
    """How long a workload that was evicted may not claim others' room; doubled with every further eviction."""

    longest_backoff_seconds: Annotated[float, Field(ge=0, le=604_800)] = 3600
    """Bound of that doubling."""

    evictions_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Pods of one tenant that may be evicted for fairness within an hour; a claimant that needs more gets no plan."""

    evictions_per_cycle: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Pods that may be evicted in one cycle in all; a claimant that needs more gets no plan."""

    reserve_after_seconds: Annotated[float, Field(ge=0, le=604_800)] = 300
    """How long a unit that fits nowhere waits before nodes are reserved for it."""

    drain_after_seconds: Annotated[float, Field(ge=0, le=604_800)] = 1800
    """How long reserved nodes whose pods have no declared end accept new pods."""

    reservations_per_pool: Annotated[int, Field(ge=0, le=1000)] = 1
    """Units with a reservation at a time in one pool."""

    successor_hold_seconds: Annotated[float, Field(ge=0, le=86_400)] = 600
    """How long the room of a pod that its StatefulSet or Job recreates is held for its successor."""

    quarantine_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 10
    """How long a pod whose binding was refused stays aside, doubled with every further refusal up to ten minutes."""

    explain_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 1
    """How often waiting pods are explained anew; only what changed is written."""

    explained_per_pass: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Waiting pods that are explained each time, in turn."""

    numbers_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    """How often a pod's message is rewritten where only its numbers have changed."""

    status_seconds: Annotated[float, Field(ge=1, le=3600)] = 5
    """Least time between two writes of one Tenant's, NodePool's or PodGroup's status."""

    @property
    def core(self) -> CoreSettings:
        """What of it the core goes by."""
        return CoreSettings(
            least_runtime=self.minimum_runtime_seconds,
            backoff=self.backoff_seconds,
            longest_backoff=self.longest_backoff_seconds,
            evictions_per_hour=self.evictions_per_hour,
            evictions_per_cycle=self.evictions_per_cycle,
            age=self.reserve_after_seconds,
            drain=self.drain_after_seconds,
            reservations_per_pool=self.reservations_per_pool,
            successor_hold=self.successor_hold_seconds,
            overstay=self.eviction_seconds,
            longest=self.longest_grace_seconds,
        )


def sources_of(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Sources[Settings]:
    """Read the command line; `--help` lists every setting."""
    return Sources.of(
        Settings,
        arguments,
        environment,
        program="allotment-scheduler",
        description="Decides where and when every tenant's pod runs, by weighted dominant shares.",
    )


def fixed_changes(before: Settings, after: Settings) -> list[str]:
    """Fields that differ but take effect at the next start only, as written in the file."""
    return sorted(to_camel(name) for name in FIXED if getattr(before, name) != getattr(after, name))


def in_force(before: Settings, after: Settings) -> Settings:
    """New settings as they take effect without a restart: where one part went by a field's old value, all go by it."""
    return after.model_copy(update={name: getattr(before, name) for name in FIXED})
