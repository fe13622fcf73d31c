"""Chaos on a real API server: whatever the network, the machines and the control plane do, the history stays sound.

`make chaos` runs the long version: minutes under faults, with etcd and the API server killed too, and only counted if
every class of requests has seen at least 50 faults, and every deed and every kind of blow has taken place. The short
version runs with all tests, for 25 seconds, without kills of the control plane, and asks for one fault in every class:
more do not fit into its time. Each run draws a seed of its own and prints it; the seed of a run that fails is kept in
build/chaos/failed-seeds.txt, with what was wrong. ALLOTMENT_CHAOS_SEED and ALLOTMENT_CHAOS_SECONDS set seed and time.

A failed run is not tried again, unless the control plane itself could not be reached, and nothing wrong was seen.
"""

import os
import random
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from allotment_local.cluster import LocalCluster
from allotment_local.progress import reporter
from builders.api_server import Actor, ApiServer
from builders.chaos import GANG, Bustle, Replicas, is_in_force
from builders.ground import Ground
from builders.helm_chart import Release
from builders.history_checker import bound_twice
from builders.patience import infrastructure_failed
from builders.pod_history import PodHistory
from builders.program_process import SchedulerProcess, eventually, give_back_lease, kubeconfig_of_account
from fakes.fault_proxy import CLASSES, FaultProxy

pytestmark = pytest.mark.flaky(reruns=1, reruns_delay=5, condition=infrastructure_failed)
LEAST_FAULTS = 50
FAILED = Path("build/chaos/failed-seeds.txt")
_EXTRA = 300


class ClusterLike(Protocol):
    """What is needed of the shared fixture `cluster`."""

    @property
    def kubeconfig(self) -> Path: ...


@dataclass
class Stage:
    """Where chaos takes place."""

    kubeconfig: Path
    """An administrator's."""
    admin: Actor
    account: Path
    """A kubeconfig of the scheduler's own account."""
    control_plane: LocalCluster | None = None
    """Where the control plane may be killed, too."""
    outages: list[str] = field(default_factory=list)

    def kill(self, component: str) -> bool:
        """End a part of the control plane as a power cut would, and start it again."""
        assert self.control_plane is not None
        found = next(each for each in self.control_plane.status().components if each.name == component)
        if found.pid is not None:
            os.kill(found.pid, signal.SIGKILL)
        self.outages.append(component)
        time.sleep(2)
        self.control_plane.up()
        return True

    def mend(self) -> None:
        """Put the control plane in order, if it was killed.

        A controller manager that was cut off while pods of its making came and went waits five minutes for news of them
        before it makes others: it begins anew.
        """
        if self.control_plane is not None:
            self.control_plane.up()
            self.kill("kube-controller-manager")


def seed_and_seconds(default: float) -> tuple[int, float]:
    seed = int(os.environ.get("ALLOTMENT_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    return seed, float(os.environ.get("ALLOTMENT_CHAOS_SECONDS") or default)


def run(stage: Stage, tmp_path: Path, *, seed: int, seconds: float, least: int) -> None:
    """Chaos for some time, then peace, and the reckoning; the seed of what fails is kept."""
    try:
        take_place(stage, tmp_path, seed=seed, seconds=seconds, least=least)
    except Exception as error:
        FAILED.parent.mkdir(parents=True, exist_ok=True)
        with FAILED.open("a") as file:
            file.write(f"ALLOTMENT_CHAOS_SEED={seed} ALLOTMENT_CHAOS_SECONDS={seconds:.0f}: {told(error)}\n")
        raise


def told(error: Exception) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:1000]


def take_place(stage: Stage, tmp_path: Path, *, seed: int, seconds: float, least: int) -> None:
    """Chaos for some time, then peace, and the reckoning."""
    say = sys.stdout.write  # pytest shows it with a failure, and always under -s
    say(f"\nchaos with ALLOTMENT_CHAOS_SEED={seed} for {seconds:.0f} s\n")
    rng = random.Random(seed)
    ground = Ground(stage.admin, f"c{uuid.uuid4().hex[:8]}")
    proxy = FaultProxy(stage.kubeconfig, seed)
    proxy.start()
    replicas = Replicas(proxy.kubeconfig_for(stage.account, tmp_path / "proxied.kubeconfig"), tmp_path, rng)
    drained: set[str] = set()
    bustle = Bustle(ground, rng, drained.add, replicas.deeds())
    history: PodHistory | None = None
    try:
        bustle.prepare()
        history = PodHistory(stage.kubeconfig, ground.name, bustle.rooms, bustle.limits, GANG)
        history.evicted_by_others = drained
        history.start()
        replicas.start()
        proxy.calm = False
        torment(
            stage,
            replicas,
            bustle,
            history,
            rng,
            too_few=lambda: any(proxy.count(kind) < least for kind in CLASSES),
            seconds=seconds,
        )
        proxy.calm = True
        replicas.calm()
        stage.mend()
        reckon(replicas, bustle, history)
    except Exception as error:
        # What has been seen comes first, whatever put an end to the run.
        if history is not None and history.violations:
            raise AssertionError(history.violations) from error
        raise
    finally:
        say(f"{proxy.table()}\n")
        say(f"{replicas.kills} kills, {replicas.kills_amid_evictions} of them amid evictions, ")
        say(f"{replicas.freezes} freezes, ends {replicas.ends}, outages {stage.outages}\n")
        say(f"deeds: {', '.join(f'{name} {times}' for name, times in sorted(bustle.done.items()))}\n")
        if history is not None:
            say(f"{history.binds} bound, {history.evictions} evicted, violations {history.violations}\n")
            history.stop()
        replicas.stop()
        proxy.stop()
        ground.leave()
    assert not bound_twice(deed.uid for deed in proxy.deeds if deed.kind == "bind")
    assert all(deed.uid for deed in proxy.deeds), "an eviction names no uid"
    assert not history.violations
    assert not replicas.mistakes()
    assert set(replicas.ends) <= {1}, "the scheduler ends with 1 when it loses the Lease, and otherwise not at all"
    assert {kind: proxy.count(kind) for kind in CLASSES if proxy.count(kind) < least} == {}, "this run does not count"
    if least >= LEAST_FAULTS:
        missing = {deed.__name__ for deed in bustle.deeds()} - set(bustle.done)
        assert not missing, "this run does not count"
        assert replicas.kills_amid_evictions, "this run does not count"


def torment(
    stage: Stage,
    replicas: Replicas,
    bustle: Bustle,
    history: PodHistory,
    rng: random.Random,
    *,
    too_few: Callable[[], bool],
    seconds: float,
) -> None:
    """Bustle, and from time to time a blow to a leader or to the control plane.

    A slow machine gets some more time if there have been too few faults.
    """
    began = time.monotonic()
    blows: list[Callable[[], bool]] = [
        replicas.kill_leader,
        lambda: replicas.freeze_leader(12),
        replicas.kill_leader_amid_evictions,
    ]
    if stage.control_plane is not None:
        blows += [lambda: stage.kill("etcd"), lambda: stage.kill("kube-apiserver")]
    turn = 0
    next_blow = time.monotonic() + 6
    looked = time.monotonic()
    while (gone := time.monotonic() - began) < seconds or (too_few() and gone < seconds + _EXTRA):
        bustle.step()
        replicas.look_after()
        if time.monotonic() > next_blow and blows[turn % len(blows)]():
            turn += 1
            next_blow = time.monotonic() + rng.uniform(12, 25)
        if (now := time.monotonic()) - looked > 1:
            history.nobody_leads(0 if replicas.somebody_leads() else now - looked)
            looked = now
        time.sleep(0.2)


def reckon(replicas: Replicas, bustle: Bustle, history: PodHistory) -> None:
    """Peace: everything converges, and the leader's picture is the truth."""
    eventually(lambda: is_in_force(bustle.ground))
    bustle.settle()

    def placed() -> bool:
        replicas.look_after()
        unsettled = history.unsettled(bustle.wanted)
        assert not unsettled, unsettled
        return True

    eventually(placed, timeout=240, because=lambda: f"{bustle.census()}\n{replicas.tail()}")

    def at_rest() -> bool:
        replicas.look_after()
        leader = replicas.leader()
        found = leader.status() if leader is not None else {}
        assert (found.get("startsUnderWay"), found.get("departures")) == (0, 0), found
        return True

    eventually(at_rest, because=replicas.tail)


@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_a_short_spell_of_chaos_leaves_a_sound_history(
    credentials: Path, admin: Actor, cluster: ClusterLike, tmp_path: Path
) -> None:
    seed, seconds = seed_and_seconds(25)
    stage = Stage(cluster.kubeconfig, admin, credentials)
    try:
        run(stage, tmp_path, seed=seed, seconds=seconds, least=1)
    finally:
        give_back_lease(admin)


@pytest.fixture(scope="module")
def own_stage(cluster_state: Path) -> Iterator[Stage]:
    """A control plane of its own, with the chart."""
    with reporter() as progress, tempfile.TemporaryDirectory(prefix="allotment-chaos-") as folder:
        running = LocalCluster("chaos", state=cluster_state, progress=progress)
        running.up(tied_to_us=True)
        try:
            Release(running.kubeconfig).ensure()
            api = ApiServer(running.kubeconfig)
            account = kubeconfig_of_account(
                running.kubeconfig, api.admin(), Path(folder), account=SchedulerProcess.account
            )
            yield Stage(running.kubeconfig, api.admin(), account, running)
            api.close()
        finally:
            running.down()


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_long_chaos_with_an_unreliable_control_plane_leaves_a_sound_history(own_stage: Stage, tmp_path: Path) -> None:
    seed, seconds = seed_and_seconds(600)
    run(own_stage, tmp_path, seed=seed, seconds=seconds, least=LEAST_FAULTS)
