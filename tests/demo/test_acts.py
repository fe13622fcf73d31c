"""An act has happened when the cluster says so, and never because it was played."""

from collections.abc import Callable

import pytest

from allotment_cli.demo import acts
from allotment_cli.demo.acts import PLAY, Apply, Verdict
from allotment_cli.demo.facts import Builds, History, Observation
from allotment_cli.demo.stage import Checkout
from builders.bank_pictures import BANK, node, picture, pod, service, tenant

SPARK = tuple(pod(f"exec-{number}", "research", on="n", owner="backtest", component="executor") for number in range(8))
SERVICES = (
    service("KafkaCluster", "payments", "payments"),
    service("KafkaTopic", "payments", "bookings"),
    service("KafkaUser", "payments", "booking-engine"),
    service("CassandraCluster", "payments", "accounts"),
    service("SparkApplication", "research", "backtest", reason="Running", state="RUNNING"),
)
CLAIMS = tuple(("payments", f"data-payments-main-{number}") for number in range(3))


@pytest.mark.parametrize("act", PLAY, ids=lambda act: act.name)
def test_no_act_has_happened_on_an_empty_cluster(act: acts.Act) -> None:
    verdict = act.judge(Observation())

    assert not verdict.done
    assert verdict.said


def test_every_file_that_an_act_applies_is_in_the_bank() -> None:
    files = {step.file for act in PLAY for step in act.steps if isinstance(step, Apply)}

    assert files == {path.name for path in Checkout.find().bank.glob("*.yaml")}


CASES: list[tuple[str, Callable[[Observation], Verdict], Observation, bool]] = [
    ("estate: all are ready", acts.estate_stands, picture(), True),
    ("estate: one is not", acts.estate_stands, picture(tenants=(*BANK, tenant("ci", "platform", ready=False))), False),
    ("services: all, and the gang is whole", acts.services_ready, picture(*SPARK, services=SERVICES), True),
    ("services: an executor is missing", acts.services_ready, picture(*SPARK[1:], services=SERVICES), False),
    ("services: Kafka is not ready", acts.services_ready,
     picture(*SPARK, services=(*SERVICES, service("KafkaCluster", "payments", "payments", ready=False))), False),
    ("borrowing: three quarters", acts.research_borrows,
     picture(*(pod(f"p{n}", "research", on="n1") for n in range(3)), nodes=(node("n1"),)), True),
    ("borrowing: a half is not enough", acts.research_borrows,
     picture(*(pod(f"p{n}", "research", on="n1") for n in range(2)), nodes=(node("n1"),)), False),
    ("borrowing: pods that ended hold nothing", acts.research_borrows,
     picture(*(pod(f"p{n}", "research", on="n1", phase="Succeeded") for n in range(3)), nodes=(node("n1"),)), False),
    ("training: every A100 and two T4", acts.fraud_trains,
     picture(pod("a", "fraud", on="a1", gpu=4), pod("t", "fraud", on="t1", gpu=2),
             nodes=(node("a1", "a100", gpu=4), node("t1", "t4", gpu=4))), True),
    ("training: one A100 is another's", acts.fraud_trains,
     picture(pod("a", "fraud", on="a1", gpu=3), pod("b", "risk", on="a1", gpu=1), pod("t", "fraud", on="t1", gpu=2),
             nodes=(node("a1", "a100", gpu=4), node("t1", "t4", gpu=4))), False),
    ("gang: all were placed", acts.gang_ran, picture(history=History(gang_spread={"risk/nightly-var": 0.2})), True),
    ("gang: still waits", acts.gang_ran, picture(pod("v", "risk", owner="nightly-var", reason="NoNodeFits")), False),
    ("release: the cluster is gone, its data is not", acts.room_released, picture(claims=CLAIMS), True),
    ("release: the data is gone as well", acts.room_released, picture(claims=CLAIMS[1:]), False),
    ("release: a broker is left", acts.room_released,
     picture(pod("k", "payments", on="n", kind="KafkaCluster"), claims=CLAIMS), False),
    ("quiet: all done", acts.all_quiet,
     picture(services=(service("JenkinsAgentPool", "ci", "builders"),), builds=Builds(finished=18)), True),
    ("quiet: an agent is left", acts.all_quiet,
     picture(pod("a", "ci", on="n", kind="JenkinsAgentPool"),
             services=(service("JenkinsAgentPool", "ci", "builders"),), builds=Builds(finished=18)), False),
    ("quiet: a Tenant still shows usage", acts.all_quiet,
     picture(tenants=(*BANK, tenant("research", "markets", usage={"cpu": 4000})),
             services=(service("JenkinsAgentPool", "ci", "builders"),), builds=Builds(finished=18)), False),
    ("quiet: payments' own usage is right", acts.all_quiet,
     picture(tenants=(*BANK, tenant("payments", "retail", usage={"cpu": 24000})),
             services=(service("JenkinsAgentPool", "ci", "builders"),), builds=Builds(finished=18)), True),
    ("quiet: no build was ever done", acts.all_quiet,
     picture(services=(service("JenkinsAgentPool", "ci", "builders"),)), False),
]  # fmt: skip


@pytest.mark.parametrize(("judge", "seen", "want"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_act_has_happened_exactly_when(
    judge: Callable[[Observation], Verdict], seen: Observation, want: bool
) -> None:
    assert judge(seen).done is want


@pytest.mark.parametrize(
    ("judge", "seen", "words"),
    [
        (acts.estate_stands, picture(tenants=(*BANK, tenant("ci", "platform", ready=False, message="it is paused"))),
         "ci: it is paused"),
        (acts.services_ready,
         picture(*SPARK, services=(*SERVICES, service("KafkaTopic", "payments", "bookings", ready=False, message="x"))),
         "KafkaTopic bookings: WaitingForPods: x"),
        (acts.research_borrows, picture(pod("p", "research", owner="parameter-sweep", message="NoNodeFits: full"),
                                        nodes=(node("n1"),)), "NoNodeFits: full"),
        (acts.fraud_trains, picture(pod("p", "fraud", owner="card-model", reason="AboveLimit"),
                                    nodes=(node("a1", "a100", gpu=4),)), "1 pods of card-model wait: AboveLimit"),
        (acts.gang_ran, picture(pod("v", "risk", owner="nightly-var", nominated="a100-1")), "cleared on a100-1"),
        (acts.shares_settle, picture(pod("b", "ci", owner="builders")), "not looked at yet"),
        (acts.room_released, picture(services=(service("KafkaCluster", "payments", "payments", ready=False,
                                                       message="Being deleted"),)), "Being deleted"),
        (acts.all_quiet, picture(tenants=(*BANK, tenant("fraud", "retail", usage={"cpu": 1})),
                                 services=(service("JenkinsAgentPool", "ci", "builders"),)), "still show usage: fraud"),
    ],
)  # fmt: skip
def test_an_act_that_has_not_happened_says_what_it_waits_for(
    judge: Callable[[Observation], Verdict], seen: Observation, words: str
) -> None:
    verdict = judge(seen)

    assert not verdict.done
    assert words in verdict.said


def shares(retail: float, markets: float, *, agents: int = acts.MOST_AGENTS) -> Observation:
    """Retail and markets both wait, at these dominant shares; both weigh 2."""
    tenants = (*BANK, tenant("retail", weight=2, share=retail), tenant("markets", weight=2, share=markets))
    waiting = (pod("f", "fraud", reason="BehindFairShare"), pod("r", "research", reason="BehindFairShare"))
    return picture(*waiting, tenants=tenants, history=History(most_agents=agents))


@pytest.mark.parametrize(
    ("seen", "want"),
    [
        pytest.param(shares(0.35, 0.35), True, id="equal weighted shares"),
        pytest.param(shares(0.35, 0.46), True, id="within the tolerance"),
        pytest.param(shares(0.20, 0.46), False, id="too far apart"),
        pytest.param(shares(0.35, 0.35, agents=11), False, id="an agent short of the maximum"),
        pytest.param(picture(pod("f", "fraud"), history=History(most_agents=12)), False, id="only one waits"),
    ],
)
def test_shares_have_settled_when_waiting_siblings_stand_alike(seen: Observation, want: bool) -> None:
    assert acts.shares_settle(seen).done is want


def test_a_tenant_that_waits_at_its_own_limit_does_not_count_as_unserved() -> None:
    seen = shares(0.35, 0.35)
    capped = pod("c", "ci", reason="AboveLimit")

    assert acts.shares_settle(
        picture(*seen.pods, capped, tenants=tuple(seen.tenants.values()), history=seen.history)
    ).done
