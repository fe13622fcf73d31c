"""A cluster's life on the real processes: up, crashes of every kind, down, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from allotment_local.cluster import GUARDIAN, LocalCluster
from allotment_local.errors import ComponentDiedError, InvalidInputError, NotRunningError
from allotment_local.process import ProcessRecord
from builders.patience import LateError

pytestmark = pytest.mark.cluster

UP = """
import signal, sys, time
from pathlib import Path
from allotment_local.cluster import LocalCluster
# A run in the background hands down that interrupts are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
LocalCluster(sys.argv[2], state=Path(sys.argv[1])).up(tied_to_us=sys.argv[3] == "tied")
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def crashing(cluster_state: Path) -> Iterator[LocalCluster]:
    """A cluster that the tests of this file may kill, and bring up again."""
    running = LocalCluster("crashing", state=cluster_state)
    running.up(tied_to_us=True)
    yield running
    running.down()


def records(cluster: LocalCluster) -> dict[str, ProcessRecord]:
    found = {path.stem: ProcessRecord.load(path) for path in (cluster.folder / "run").glob("*.json")}
    return {name: record for name, record in found.items() if record is not None}


def kill(record: ProcessRecord) -> None:
    """Kill a component and await its end; it is a child of this process."""
    os.kill(record.pid, signal.SIGKILL)
    os.waitid(os.P_PID, record.pid, os.WEXITED | os.WNOWAIT)


def eventually(condition: Callable[[], bool], *, seconds: float = 300) -> None:
    """Await something that other processes do and that no event of ours tells."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise LateError("it did not happen")
        time.sleep(0.02)


def test_up_makes_a_healthy_cluster_with_every_component(crashing: LocalCluster) -> None:
    status = crashing.status()

    assert status.phase == "Running"
    assert [component.name for component in status.components] == [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kwok",
    ]
    assert crashing.kubectl("get", "--raw", "/readyz").stdout == "ok"


def test_up_again_changes_nothing(crashing: LocalCluster) -> None:
    before = records(crashing)

    crashing.up()

    assert records(crashing) == before


def test_two_clusters_run_side_by_side(crashing: LocalCluster, local_cluster: LocalCluster) -> None:
    crashing.kubectl("create", "configmap", "only-here")

    other = local_cluster.kubectl("get", "configmap", "only-here", check=False)
    assert "NotFound" in other.stderr
    assert crashing.specification.server != local_cluster.specification.server


def test_one_clusters_certificate_does_not_open_another(crashing: LocalCluster, local_cluster: LocalCluster) -> None:
    server = f"--server={local_cluster.specification.server}"

    refused = crashing.kubectl("get", "namespaces", server, check=False)

    assert refused.returncode != 0
    assert "certificate" in refused.stderr


def test_nobody_gets_in_without_a_certificate(crashing: LocalCluster, tmp_path: Path) -> None:
    empty = tmp_path / "kubeconfig"
    empty.write_text("")
    spec = crashing.specification
    arguments = [
        f"--server={spec.server}",
        f"--certificate-authority={spec.pki}/ca.crt",
        "--token=x",
        "get",
        "namespaces",
    ]

    refused = crashing.kubectl(f"--kubeconfig={empty}", *arguments, check=False)

    assert refused.returncode != 0
    assert "Unauthorized" in refused.stderr or "must be logged in" in refused.stderr


def test_components_have_only_the_rights_of_their_user(crashing: LocalCluster) -> None:
    def may(user: str, *what: str) -> bool:
        return crashing.kubectl("auth", "can-i", *what, f"--as={user}", "-A", check=False).stdout.strip() == "yes"

    assert may("allotment:kwok", "patch", "pods", "--subresource=status")
    assert not may("allotment:kwok", "get", "secrets")
    assert not may("system:kube-scheduler", "get", "secrets")


def test_changes_of_our_kinds_would_be_in_the_audit_log_and_secrets_are_not(crashing: LocalCluster) -> None:
    crashing.kubectl("create", "secret", "generic", "hidden", "--from-literal=password=do-not-log")
    log = crashing.specification.logs / "audit.log"

    eventually(lambda: '"name":"hidden"' in log.read_text())
    assert "do-not-log" not in log.read_text()
    assert "ZG8tbm90LWxvZw" not in log.read_text()


def test_a_killed_component_shows_in_the_status_with_its_last_lines_and_up_starts_it_again(
    crashing: LocalCluster,
) -> None:
    before = records(crashing)
    kill(before["kube-apiserver"])

    status = crashing.status()
    dead = next(component for component in status.components if component.name == "kube-apiserver")
    assert status.phase == "Degraded"
    assert not dead.running
    assert len(dead.last_lines) > 3

    crashing.up()
    assert crashing.status().phase == "Running"
    assert records(crashing)["etcd"] == before["etcd"]
    assert crashing.kubectl("get", "configmap", "kube-root-ca.crt").returncode == 0


def test_a_port_that_another_program_took_meanwhile_is_named(crashing: LocalCluster) -> None:
    kill(records(crashing)["kube-apiserver"])
    port = crashing.specification.ports.api
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()

        with pytest.raises(ComponentDiedError) as caught:
            crashing.up()

    assert caught.value.component == "kube-apiserver"
    assert "address already in use" in caught.value.message
    assert "taken by another program" in caught.value.hint
    crashing.up()
    assert crashing.status().healthy


def test_a_cluster_whose_processes_all_died_starts_again_with_its_state(crashing: LocalCluster) -> None:
    crashing.kubectl("create", "namespace", "survives")
    for name, record in records(crashing).items():
        if name != GUARDIAN:
            kill(record)
    assert crashing.status().phase == "Stopped"

    crashing.up()

    assert crashing.kubectl("get", "namespace", "survives").returncode == 0


def test_down_leaves_no_process_and_no_file(crashing: LocalCluster) -> None:
    before = records(crashing)

    assert crashing.down()

    assert GUARDIAN in before
    assert not [name for name, record in before.items() if record.is_running()]
    assert not crashing.folder.exists()
    assert not list(crashing.layout.clusters.glob(f".{crashing.name}*"))
    assert not crashing.down()
    with pytest.raises(NotRunningError, match="no local cluster 'crashing'"):
        crashing.status()


@pytest.mark.parametrize("tied", ["tied", "free"])
def test_a_killed_parent_leaves_a_cluster_that_goes_down_completely(cluster_state: Path, tied: str) -> None:
    name = f"orphan-{tied}"
    with subprocess.Popen(
        [sys.executable, "-c", UP, str(cluster_state), name, tied], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        parent.kill()
    orphan = LocalCluster(name, state=cluster_state)
    before = records(orphan)

    if tied == "tied":  # its guardian takes it down
        eventually(lambda: not orphan.folder.exists())
    else:  # it outlives its parent until somebody ends it
        assert all(record.is_running() for record in before.values())
        orphan.down()

    eventually(lambda: not any(record.is_running() for record in before.values()))
    assert not orphan.folder.exists()


def test_an_interrupted_start_is_taken_down_again(cluster_state: Path) -> None:
    unfinished = LocalCluster("interrupted", state=cluster_state)
    with subprocess.Popen(
        [sys.executable, "-c", UP, str(cluster_state), "interrupted", "free"], stderr=subprocess.PIPE
    ) as parent:
        eventually(lambda: "kube-apiserver" in records(unfinished))
        before = records(unfinished)
        parent.send_signal(signal.SIGINT)
        parent.communicate(timeout=300)

    assert not any(record.is_running() for record in before.values())
    assert not unfinished.folder.exists()


def test_a_chosen_port_that_is_taken_is_refused_before_anything_starts(cluster_state: Path) -> None:
    clash = LocalCluster("clash", state=cluster_state)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(InvalidInputError, match=f"Port {port} of 127.0.0.1 cannot be used"):
            clash.up(api_port=port)

    assert not clash.folder.exists()


def test_a_broken_binary_is_named_and_nothing_is_left(cluster_state: Path, tmp_path: Path) -> None:
    programs = {
        "etcd": "\x7fELF but no more\n",
        "kube-apiserver": "#!/bin/sh\necho Kubernetes v1.36.3\n",
        "kubectl": "#!/bin/sh\n",
    }
    for name, content in programs.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    broken = LocalCluster("broken", state=cluster_state)

    with pytest.raises(ComponentDiedError, match=r"etcd cannot start: .*/etcd is broken"):
        broken.up(environment={"ALLOTMENT_BINARIES": str(tmp_path)})

    assert not broken.folder.exists()


def test_a_flag_that_a_component_does_not_know_is_told_with_its_own_words(cluster_state: Path) -> None:
    wrong = LocalCluster("wrong-flag", state=cluster_state)

    with pytest.raises(ComponentDiedError, match=r"etcd died \(exit status 2\)(.|\n)*nonsense") as caught:
        wrong.up(extra_flags={"etcd": ("--nonsense",)})

    assert "another version" in caught.value.hint
    assert not wrong.folder.exists()


def test_down_after_a_reboot_touches_no_process_that_has_a_recorded_id_now(cluster_state: Path) -> None:
    rebooted = LocalCluster("rebooted", state=cluster_state)
    (rebooted.folder / "run").mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as innocent:
        ProcessRecord(innocent.pid, "12345", "an earlier boot", ("etcd",)).save(rebooted.folder / "run" / "etcd.json")

        assert rebooted.down()

        assert innocent.poll() is None
        innocent.kill()
    assert not rebooted.folder.exists()


def test_helm_talks_to_the_cluster(local_cluster: LocalCluster) -> None:
    assert isinstance(json.loads(local_cluster.helm("list", "-A", "-o", "json").stdout), list)
