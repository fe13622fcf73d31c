"""Both schedulers agree on which nodes a pod could start on: the real kube-scheduler and our engine, live and offline.

Random clusters look for disagreements; whatever they found once is kept below data/, and so is every difference that
is meant. ALLOTMENT_PARITY_SEED chooses other random clusters, ALLOTMENT_PARITY_SECONDS how long the long run looks, and
ALLOTMENT_PARITY_THEME what all its clusters are about.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.patience import infrastructure_failed
from parity import ours
from parity.cases import random_case
from parity.comparison import Tally, as_yaml, compare, shrunk
from parity.kube_scheduler import Peer
from parity.referee import Object, PodName, refereeing

pytestmark = pytest.mark.flaky(reruns=1, reruns_delay=5, condition=infrastructure_failed)
SHORT_SECONDS = 10.0
FEWEST = 3
"""Random clusters that the short run compares, however slow the machine is."""

FOUND = Path("build/parity")
"""Where the smallest case of each new disagreement is left."""


@dataclass(frozen=True)
class Settled:
    """A case whose answer is known: `theirs` differs from `ours` only where that is meant."""

    objects: list[Object]
    ours: dict[PodName, frozenset[str]]
    theirs: dict[PodName, frozenset[str]]


def settled(path: Path) -> Settled:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    feasible = _nodes_by_pod(content["feasible"])
    return Settled(content["objects"], feasible, _nodes_by_pod(content.get("kube-scheduler", content["feasible"])))


def _nodes_by_pod(listed: dict[str, list[str]]) -> dict[PodName, frozenset[str]]:
    found = {}
    for name, nodes in listed.items():
        namespace, _, pod = name.partition("/")
        found[namespace, pod] = frozenset(nodes)
    return found


SETTLED = sorted((Path(__file__).parent / "data").glob("*.yaml"))
by_sentence = pytest.mark.parametrize("path", SETTLED, ids=lambda path: path.stem)


@by_sentence
def test_a_settled_case_is_answered_as_recorded(path: Path) -> None:
    case = settled(path)
    spaces: list[Object] = [{"kind": "Namespace", "metadata": {"name": name}} for name in ("red", "blue", "grey")]
    spaces[1]["metadata"]["labels"] = {"team": "b"}

    assert ours.offline([*spaces, *case.objects]) == case.ours
    assert ours.live([*spaces, *case.objects]) == case.ours


@pytest.mark.cluster
@pytest.mark.soak  # the records are its answers: asked anew where Kubernetes moves on
@pytest.mark.timeout(1800)
async def test_kube_scheduler_answers_every_settled_case_as_recorded(peer: Peer) -> None:
    different = {}
    async with refereeing(peer) as referee:
        for path in SETTLED:
            case = settled(path)
            held = await referee.put(case.objects)
            verdicts = await referee.verdicts(held)
            for pod, nodes in case.theirs.items():
                if verdicts[pod].nodes != nodes:
                    manifest = next(each for each in case.objects if each["metadata"]["name"] == pod[1])
                    verdicts[pod] = await referee.ask_again(manifest)
            if {pod: verdict.nodes for pod, verdict in verdicts.items()} != case.theirs:
                different[path.stem] = verdicts
            assert ours.live(held) == case.ours, path.stem
            await referee.clear()

    assert different == {}


@pytest.mark.cluster
@pytest.mark.timeout(1800)
async def test_random_pods_may_start_on_the_same_nodes(peer: Peer) -> None:
    await _compare_random_clusters(peer, seed=os.environ.get("ALLOTMENT_PARITY_SEED", "short13"), seconds=SHORT_SECONDS)


@pytest.mark.cluster
@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_random_pods_may_start_on_the_same_nodes_for_long(peer: Peer) -> None:
    seed = os.environ.get("ALLOTMENT_PARITY_SEED", f"{time.time():.0f}")
    seconds = float(os.environ.get("ALLOTMENT_PARITY_SECONDS", "1200"))
    theme = os.environ.get("ALLOTMENT_PARITY_THEME", "")
    await _compare_random_clusters(peer, seed=seed, seconds=seconds, theme=theme)


def _leave(name: str, objects: list[Object]) -> None:
    FOUND.mkdir(parents=True, exist_ok=True)
    (FOUND / f"{name}.yaml").write_text(as_yaml(objects))


async def _compare_random_clusters(peer: Peer, *, seed: str, seconds: float, theme: str = "") -> None:
    """Compare clusters until the time is over; of the first that disagrees, leave the smallest form."""
    print(f"ALLOTMENT_PARITY_SEED={seed}")  # noqa: T201 - what repeats this run
    tally, ends = Tally(), time.monotonic() + seconds
    disagreements: list[str] = []
    async with refereeing(peer) as referee:
        while time.monotonic() < ends or tally.cases < FEWEST:
            name = f"{seed}-{tally.cases}"
            case = random_case(name, theme=theme)
            found = await compare(referee, case, tally)
            if found and not disagreements:
                _leave(name, await shrunk(referee, case, found[0].pod))
            disagreements += [f"{name}: {each}" for each in found]
    print(f"{tally}: {len(disagreements)} disagreements")  # noqa: T201 - what was found

    assert disagreements == [], f"the smallest case is in {FOUND}; a seed's number after the dash is its cluster"
    assert tally.somewhere > 0
