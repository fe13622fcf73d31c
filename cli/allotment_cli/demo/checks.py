"""What must never happen while the demo runs, whatever is killed: checked on every picture of the cluster.

A check names what it found in a sentence. The API server itself already refuses to bind one pod twice; what it does not
see, and these do, is a node given more than it holds, a service made twice, and a Job with more pods than it asked for.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator

from allotment_cli.demo.facts import Observation


def violations(seen: Observation) -> Iterator[str]:
    """Everything that is wrong in one picture."""
    yield from _overcommitted(seen)
    yield from _doubled(seen)
    yield from _foreign(seen)


def _overcommitted(seen: Observation) -> Iterator[str]:
    held: dict[str, Counter[str]] = defaultdict(Counter)
    for pod in seen.pods:
        if pod.holds_room:
            held[pod.node].update({**pod.requests, "pods": 1})
    for node in seen.nodes:
        for resource, amount in held[node.name].items():
            room = node.allocatable.get(resource, 0)
            if amount > room:
                yield f"node {node.name} holds {amount} {resource} of {room}"


def _doubled(seen: Observation) -> Iterator[str]:
    """Services with more pods than their names allow, and drivers or Jobs that run twice."""
    drivers = Counter((pod.namespace, pod.owner) for pod in seen.pods if pod.component == "driver" and pod.running)
    for (namespace, name), count in drivers.items():
        if count > 1:
            yield f"{namespace}/{name} has {count} drivers at once"
    active = Counter((pod.namespace, pod.owner) for pod in seen.pods if pod.kind == "Job" and pod.running)
    for key, job in seen.jobs.items():
        if active[key] > job.parallelism:
            yield f"job {job.namespace}/{job.name} runs {active[key]} pods of {job.parallelism}"


def _foreign(seen: Observation) -> Iterator[str]:
    """A tenant's pod that another scheduler than ours would place."""
    leaves = {name for name in seen.tenants if not seen.children(name)}
    for pod in seen.pods:
        if pod.namespace in leaves and pod.scheduler != "allotment":
            yield f"pod {pod.namespace}/{pod.name} names scheduler {pod.scheduler}"
