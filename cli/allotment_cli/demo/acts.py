"""The play: what is done in each act, and the predicate on the observed cluster that says when it has happened.

An act is data. Its steps name who does what, with which manifest; the director carries them out. Its predicate is a
pure function of one observation and answers with a verdict: whether it has happened, and the numbers to say so with.
An act whose predicate does not come true in time has not happened, and the demo fails with the verdict's words.

Nothing here may look at a clock or at the cluster.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from allotment_api.quantities import CPU, GPU
from allotment_cli.demo.facts import Observation, ServiceFact, TenantFact
from allotment_cli.demo.members import (
    BUILD_ENGINEER,
    CARD_SCIENTIST,
    PAYMENTS_LEAD,
    PLATFORM_ADMIN,
    QUANT,
    RISK_ENGINEER,
    Member,
)

OURS: Final = "allotment.dev/v1alpha1"
ORDINARY: Final = ("general", "high-memory")
"""Pools whose nodes carry no taint."""
BROKERS: Final = 3
"""As examples/bank/03-payments.yaml has it."""
EXECUTORS: Final = 8
"""As examples/bank/06-research-backtest.yaml has it."""
BUILDS: Final = 100
"""More than are ever run: the burst must last until the agents are all there, however slow the machine."""
BUILD_SECONDS: Final = 8.0
PATIENCE: Final = 300.0
"""Seconds that an act may take. Most need less than ten; on a machine that others keep busy all of them need more."""
MOST_AGENTS: Final = 12
"""As `maxAgents` in examples/bank/07-ci-agents.yaml has it."""
TOLERANCE: Final = 0.06
"""How far the weighted shares of two siblings that both wait may lie apart: running pods are whole, and not cut short
for the sake of a few points."""


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply a file of the bank as a member; only the named objects, if any are named."""

    who: Member
    file: str
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete an object as a member."""

    who: Member
    api_version: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Try something that the API server must refuse, as a member, until it does."""

    who: Member
    title: str
    namespace: str
    scheduler: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """Store the stand-in controller's credentials as a member, as the build team would."""

    who: Member
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Queue:
    """Queue builds at the stand-in controller."""

    label: str
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CallOff:
    """Take the builds that still wait out of the stand-in controller's queue."""


Step = Apply | Remove | Refused | Credentials | Queue | CallOff


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an act has happened, and the numbers."""

    done: bool
    said: str


@dataclass(frozen=True, slots=True)
class Act:
    """One act: what the viewer is told, what is done, and when it is over.

    Attributes:
        seconds: after so long without its predicate coming true, it did not happen.
    """

    name: str
    sentence: str
    steps: tuple[Step, ...]
    judge: Callable[[Observation], Verdict]
    seconds: float = PATIENCE


def estate_stands(seen: Observation) -> Verdict:
    """Every tenant is Ready."""
    ready = sum(1 for each in seen.tenants.values() if each.ready)
    open_ = next((each for each in seen.tenants.values() if not each.ready), None)
    why = f"; {open_.name}: {open_.message or 'not looked at yet'}" if open_ else ""
    return Verdict(len(seen.tenants) >= 8 and ready == len(seen.tenants), f"{ready} of 8 tenants ready{why}")


def fence_stands(seen: Observation) -> Verdict:
    """The API server refused what it should."""
    words = seen.refusals.get("another scheduler", "")
    return Verdict(bool(words), _shortened(words) or "not refused yet")


def services_ready(seen: Observation) -> Verdict:
    """Payments' services are Ready, and research's Spark application runs whole."""
    wanted = (
        ("KafkaCluster", "payments", "payments"),
        ("KafkaTopic", "payments", "bookings"),
        ("KafkaUser", "payments", "booking-engine"),
        ("CassandraCluster", "payments", "accounts"),
        ("SparkApplication", "research", "backtest"),
    )
    found = [seen.service(*key) for key in wanted]
    ready = [each for each in found if each is not None and each.ready]
    executors = [pod for pod in seen.of_owner("research", "backtest") if pod.component == "executor" and pod.running]
    missing = [
        f"; {kind} {name}: {_state(service)}"
        for (kind, _, name), service in zip(wanted, found, strict=True)
        if service is None or not service.ready
    ]
    why = _why(seen, "research", "backtest") if len(executors) < EXECUTORS else ""
    said = (
        f"{len(ready)} of {len(wanted)} ready, {len(executors)} of {EXECUTORS} Spark executors{why}{''.join(missing)}"
    )
    return Verdict(not missing and len(executors) == EXECUTORS, said)


def research_borrows(seen: Observation) -> Verdict:
    """Research holds more than two thirds of the CPU for ordinary work."""
    room = seen.capacity(CPU, pools=ORDINARY)
    held = sum(seen.used(CPU, namespace="research", pool=pool) for pool in ORDINARY)
    done = room > 0 and held * 3 > room * 2
    why = "" if done else _why(seen, "research", "parameter-sweep")
    return Verdict(done, f"research holds {held // 1000} of {room // 1000} ordinary cores{why}")


def fraud_trains(seen: Observation) -> Verdict:
    """Fraud holds all A100s and two T4s."""
    a100, t4 = (seen.used(GPU, namespace="fraud", pool=pool) for pool in ("a100", "t4"))
    room = seen.capacity(GPU, pools=("a100",))
    done = room > 0 and a100 == room and t4 == 2
    why = "" if done else _why(seen, "fraud", "card-model" if a100 < room else "transfer-model")
    return Verdict(done, f"fraud trains on {a100} of {room} A100 and {t4} T4{why}")


def gang_ran(seen: Observation) -> Verdict:
    """All eight workers of the VaR job were given nodes at once."""
    spread = seen.history.gang_spread.get("risk/nightly-var")
    if spread is None:
        waiting = [pod for pod in seen.of_owner("risk", "nightly-var") if pod.waiting]
        return Verdict(done=False, said=f"{len(waiting)} of 8 workers wait{_why(seen, 'risk', 'nightly-var')}")
    said = f"8 workers started within {spread:.1f} s of each other; {seen.history.evictions} pods were evicted so far"
    return Verdict(done=True, said=said)


def shares_settle(seen: Observation) -> Verdict:
    """Siblings that both have waiting pods stand at the same weighted share, and the burst reached its maximum."""
    gaps = list(_gaps(seen))
    agents = seen.history.most_agents
    burst = f"{agents} of {MOST_AGENTS} agents at most"
    if agents < MOST_AGENTS:
        pool = seen.service("JenkinsAgentPool", "ci", "builders")
        burst += _why(seen, "ci", "builders") or f" (JenkinsAgentPool builders: {_state(pool)})"
    widest = max((gap for gap, _, _ in gaps), default=None)
    if widest is None:
        return Verdict(done=False, said=f"fewer than two siblings wait; {burst}")
    pair = next(f"{one.name} and {other.name}" for gap, one, other in gaps if gap == widest)
    said = f"weighted shares of {pair} are {widest:.3f} apart; {burst}"
    return Verdict(widest <= TOLERANCE and agents >= MOST_AGENTS, said)


def room_released(seen: Observation) -> Verdict:
    """Payments' Kafka is gone, its data is kept, and others run in its room."""
    pods = [pod for pod in seen.pods if pod.namespace == "payments" and pod.kind == "KafkaCluster"]
    service = seen.service("KafkaCluster", "payments", "payments")
    gone = service is None and not pods
    kept = [name for namespace, name in seen.claims if namespace == "payments" and "payments-main" in name]
    free = seen.capacity(CPU, pools=("general",)) - seen.used(CPU, pool="general")
    said = f"{len(pods)} brokers left, {len(kept)} volumes kept; {free / 1000:g} cores of the general pool are free"
    said += f"; KafkaCluster payments: {_state(service)}" if service else ""
    return Verdict(gone and len(kept) == BROKERS, said)


def all_quiet(seen: Observation) -> Verdict:
    """No build waits or runs, no agent is left, only payments' Cassandra holds room, and the Tenants say so, too."""
    pool = seen.service("JenkinsAgentPool", "ci", "builders")
    agents = sum(1 for pod in seen.pods if pod.kind == "JenkinsAgentPool" and not pod.over)
    cores = seen.used(CPU)
    rest = cores - seen.used(CPU, namespace="payments")
    idle = seen.builds.waiting == seen.builds.running == 0 and seen.builds.finished > 0
    leaves = [each for each in seen.tenants.values() if not seen.children(each.name)]
    told = [each.name for each in leaves if each.name != "payments" and any(each.usage.values())]
    said = (
        f"{seen.builds.finished} builds done, {seen.builds.waiting + seen.builds.running} left; "
        f"{agents} agents; {cores / 1000:g} cores held"
    )
    said += f"; Tenants that still show usage: {', '.join(told)}" if told else ""
    return Verdict(idle and agents == 0 and rest == 0 and not told and pool is not None and pool.agents == 0, said)


def _gaps(seen: Observation) -> Iterator[tuple[float, TenantFact, TenantFact]]:
    """Distances of the weighted shares of siblings that wait for ordinary machines, each at any level."""
    for parent in ("", *seen.tenants):
        hungry = [each for each in seen.children(parent) if each.weight and _waits_for_cores(seen, each.name)]
        for one, other in combinations(hungry, 2):
            yield abs(one.share / one.weight - other.share / other.weight), one, other


def _waits_for_cores(seen: Observation, tenant: str) -> bool:
    return any(GPU not in pod.requests and pod.reason != "AboveLimit" for pod in seen.waiting(tenant))


def _why(seen: Observation, namespace: str, owner: str) -> str:
    """Why a waiting pod of an owner waits, in the scheduler's words; empty where none waits."""
    waiting = [pod for pod in seen.of_owner(namespace, owner) if pod.waiting]
    if not waiting:
        return ""
    cleared = next((pod.nominated for pod in waiting if pod.nominated), "")
    words = f"room is being cleared on {cleared}" if cleared else "not looked at yet"
    words = next((pod.message or pod.reason for pod in waiting if pod.message or pod.reason), words)
    return f"; {len(waiting)} pods of {owner} wait: {_shortened(words, 200)}"


def _state(service: ServiceFact | None) -> str:
    if service is None:
        return "missing"
    return _shortened(f"{service.reason}: {service.message}", 160) if service.reason else "not looked at yet"


def _shortened(words: str, most: int = 110) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"


PLAY: Final[tuple[Act, ...]] = (
    Act(
        "estate",
        "The platform team declares four node pools and eight tenants; the operator makes their namespaces and walls.",
        (Apply(PLATFORM_ADMIN, "01-node-pools.yaml"), Apply(PLATFORM_ADMIN, "02-tenants.yaml")),
        estate_stands,
    ),
    Act(
        "fence",
        "A fraud scientist tries to slip past the scheduler; the API server itself refuses.",
        (Refused(CARD_SCIENTIST, "another scheduler", "fraud", "my-own-scheduler"),),
        fence_stands,
    ),
    Act(
        "services",
        "Payments provisions Kafka and Cassandra, research a Spark back-test: no ticket, no cluster rights.",
        (Apply(PAYMENTS_LEAD, "03-payments.yaml"), Apply(QUANT, "06-research-backtest.yaml")),
        services_ready,
    ),
    Act(
        "borrowing",
        "Nobody else is busy, so research borrows: its parameter sweep fills the idle machines.",
        (Apply(QUANT, "08-research-sweep.yaml"),),
        research_borrows,
    ),
    Act(
        "contention",
        "Fraud and the builds want machines too: shares move to the tenants' weights, agents burst from none to 12.",
        (
            Apply(CARD_SCIENTIST, "09-fraud-features.yaml"),
            Credentials(BUILD_ENGINEER, "ci", "jenkins"),
            Apply(BUILD_ENGINEER, "07-ci-agents.yaml"),
            Queue("linux", BUILDS, BUILD_SECONDS),
        ),
        shares_settle,
    ),
    Act(
        "release",
        "Payments deletes its Kafka: the brokers go, their data stays, and waiting work moves into the room.",
        (
            Remove(PAYMENTS_LEAD, OURS, "KafkaUser", "payments", "booking-engine"),
            Remove(PAYMENTS_LEAD, OURS, "KafkaTopic", "payments", "bookings"),
            Remove(PAYMENTS_LEAD, OURS, "KafkaCluster", "payments", "payments"),
        ),
        room_released,
    ),
    Act(
        "training",
        "Fraud trains on every A100: four are guaranteed to it, twelve it borrows.",
        (Apply(CARD_SCIENTIST, "04-fraud-training.yaml"),),
        fraud_trains,
    ),
    Act(
        "gang",
        "Risk calls in its guarantee: eight workers on A100s that start together, or not at all.",
        (Apply(RISK_ENGINEER, "05-risk-var.yaml"),),
        gang_ran,
    ),
    Act(
        "quiet",
        "The teams call their work off; the last builds end and the agents with them, back to none.",
        (
            CallOff(),
            Remove(QUANT, "batch/v1", "Job", "research", "parameter-sweep"),
            Remove(QUANT, OURS, "SparkApplication", "research", "backtest"),
            Remove(CARD_SCIENTIST, "batch/v1", "Job", "fraud", "card-features"),
            Remove(CARD_SCIENTIST, "batch/v1", "Job", "fraud", "card-model"),
            Remove(CARD_SCIENTIST, "batch/v1", "Job", "fraud", "transfer-model"),
            Remove(RISK_ENGINEER, "batch/v1", "Job", "risk", "nightly-var"),
        ),
        all_quiet,
    ),
)
"""The demo's acts in order."""
