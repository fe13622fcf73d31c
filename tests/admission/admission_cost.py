"""What the admission policies cost: `python tests/admission/admission_cost.py KUBECONFIG`.

Creates pods by turns, one in a namespace without and one in a namespace with the tenant label, and compares the two of
each turn: what else the machine does meets both alike. Then the same with the chart's admission.enabled=false, where
the difference must vanish: what is left of it is the measurement's error.

It installs the chart and takes it away again: for a test cluster only.
"""

import argparse
import statistics
import sys
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from builders.api_server import Actor, ApiServer
from builders.helm_chart import Release, tenant_policy
from builders.tenant_objects import await_default_service_account, expect, namespace_object, pod

WARM_UP = 50
POLICY = {"allowedRegistries": ["registry.bank/retail"], "maxPriority": 1000, "maxRuntimeSeconds": 86400}


def worker_pod(namespace: str, number: int) -> dict[str, Any]:
    """A pod as a Job's: two containers, requests, a toleration that every pod gets, labels and annotations."""
    resources = {"requests": {"cpu": "100m", "memory": "500Mi"}}
    image = "registry.bank/retail/worker:1"
    return pod(
        namespace,
        f"p{number}",
        spec={
            "containers": [{"name": name, "image": image, "resources": resources} for name in ("main", "sidecar")],
            "nodeSelector": {"pool": "general"},
        },
        labels={"app": "worker", "allotment.dev/preemptible": "true"},
        annotations={"allotment.dev/max-runtime": "3600"},
    )


def measure(admin: Actor, turns: int) -> tuple[list[float], list[float]]:
    """Create pods by turns; returns the seconds of each create without and with the tenant label."""
    suffix = uuid.uuid4().hex[:6]
    plain, tenant = f"cost-plain-{suffix}", f"cost-tenant-{suffix}"
    expect(admin, namespace_object(plain))
    expect(admin, namespace_object(tenant, "retail"))
    expect(admin, tenant_policy(tenant, **POLICY))
    seconds: dict[str, list[float]] = {plain: [], tenant: []}
    try:
        for namespace in seconds:
            await_default_service_account(admin, namespace)
        for turn in range(turns + WARM_UP):
            for namespace in (plain, tenant) if turn % 2 else (tenant, plain):
                manifest = worker_pod(namespace, turn)
                started = time.perf_counter()
                expect(admin, manifest)
                seconds[namespace].append(time.perf_counter() - started)
    finally:
        for namespace in seconds:
            admin.delete(namespace_object(namespace))
    return seconds[plain][WARM_UP:], seconds[tenant][WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--turns", type=int, default=1000)
    options = parser.parse_args()
    release, api = Release(options.kubeconfig), ApiServer(options.kubeconfig)
    try:
        for enabled in (True, False):
            release.install({"admission.enabled": enabled})
            plain, tenant = measure(api.admin(), options.turns)
            difference = statistics.median(b - a for a, b in zip(plain, tenant, strict=True))
            without, within = statistics.median(plain), statistics.median(tenant)
            print(  # noqa: T201 - this is a program
                f"policies {'on ' if enabled else 'off'}: {without * 1e3:.2f} ms outside a tenant, "
                f"{within * 1e3:.2f} ms inside, ratio {within / without:.2f}; "
                f"median difference {difference * 1e3:.2f} ms a pod"
            )
    finally:
        release.uninstall()
        api.close()


if __name__ == "__main__":
    main()
