"""`allot local` as a user types it: output, exit codes and errors without traceback."""

import json
from pathlib import Path

import pytest
import yaml

from allotment_local.cluster import LocalCluster

from .conftest import Allot, AllotProcess

pytestmark = pytest.mark.cluster

NAME = "with-nodes"
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"


def test_status_shows_every_cluster_and_its_nodes(allot: Allot, with_nodes: LocalCluster) -> None:
    done = allot("local", "status", "--name", NAME)

    assert done.exit_code == 0, done.stderr
    assert with_nodes.specification.server in done.stdout
    assert "4/4" in done.stdout


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_status_as_data_has_components_and_ports(allot: Allot, with_nodes: LocalCluster, output: str) -> None:
    done = allot("local", "status", "--name", NAME, "-o", output)

    data = json.loads(done.stdout) if output == "json" else yaml.safe_load(done.stdout)
    assert data["phase"] == "Running"
    assert data["nodesReady"] == 4
    assert data["kubeconfig"] == str(with_nodes.kubeconfig)
    assert {component["name"]: component["running"] for component in data["components"]}["etcd"]


@pytest.mark.usefixtures("with_nodes")
def test_kubectl_gets_its_arguments_input_and_exit_code_through(allot_process: AllotProcess) -> None:
    named = allot_process("local", "kubectl", "-n", "kube-system", "get", "cm", "-o", "name", ALLOTMENT_CLUSTER=NAME)
    made = allot_process("local", "kubectl", "--name", NAME, "create", "--dry-run=client", "-f", "-", stdin=NAMESPACE)
    failed = allot_process("local", "kubectl", "--name", NAME, "--help=false", "get", "nonsense")

    assert "configmap/extension-apiserver-authentication" in named.stdout
    assert "namespace/a created" in made.stdout
    assert (failed.returncode, "doesn't have a resource type" in failed.stderr) == (1, True)


@pytest.mark.usefixtures("with_nodes")
def test_logs_of_one_component_or_of_all(allot: Allot) -> None:
    one = allot("local", "logs", "kube-apiserver", "--name", NAME, "--lines", "3")
    every = allot("local", "logs", "--name", NAME, "--lines", "2")
    wrong = allot("local", "logs", "kubelet", "--name", NAME)

    assert len(one.stdout.splitlines()) == 3
    assert any(line.startswith("kube-apiserver") and " | " in line for line in every.stdout.splitlines())
    assert wrong.exit_code == 2
    assert "etcd" in wrong.stderr


def test_a_cluster_that_does_not_exist_is_code_3_and_says_what_to_do(allot: Allot) -> None:
    done = allot("local", "status", "--name", "nowhere")

    assert done.exit_code == 3
    assert "There is no local cluster 'nowhere'" in done.stderr
    assert "allot local up --name nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_any_cluster_status_is_code_3_and_empty(allot: Allot, tmp_path: Path) -> None:
    done = allot("local", "status", "-o", "json", ALLOTMENT_STATE=str(tmp_path))

    assert (done.exit_code, json.loads(done.stdout)) == (3, [])


def test_a_wrong_pool_file_is_code_2_and_starts_nothing(allot: Allot, tmp_path: Path) -> None:
    pools = tmp_path / "pools.yaml"
    pools.write_text("pools: [{name: a, count: many, cpu: 1, memory: 1Gi}]")

    done = allot("local", "up", "--nodes", str(pools), ALLOTMENT_STATE=str(tmp_path / "state"))

    assert done.exit_code == 2
    assert "pools[0] (a).count" in done.stderr
    assert not (tmp_path / "state").exists()


def test_down_of_nothing_is_no_error(allot: Allot, tmp_path: Path) -> None:
    one = allot("local", "down", ALLOTMENT_STATE=str(tmp_path))
    every = allot("local", "down", "--all", ALLOTMENT_STATE=str(tmp_path))

    assert (one.exit_code, every.exit_code) == (0, 0)
    assert "There is no cluster allotment" in one.stdout
    assert not list(tmp_path.iterdir())


def test_prune_says_what_would_go(allot: Allot, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "go" / "build").mkdir(parents=True)
    (tmp_path / "go" / "build" / "object").write_bytes(b"x" * 3_000_000)

    done = allot("local", "prune", "--dry-run", ALLOTMENT_CACHE=str(tmp_path))

    assert done.exit_code == 0, done.stderr
    assert "3 MB would be free again" in " ".join(done.stdout.split())
    assert (tmp_path / "go" / "build").exists()


def test_up_merges_into_the_users_kubeconfig_and_down_takes_it_out(allot: Allot, tmp_path: Path) -> None:
    users = tmp_path / "config"
    state = str(tmp_path / "state")

    up = allot("local", "up", "--merge", "-o", "json", KUBECONFIG=str(users), ALLOTMENT_STATE=state)
    merged = yaml.safe_load(users.read_text())
    down = allot("local", "down", KUBECONFIG=str(users), ALLOTMENT_STATE=state)

    assert up.exit_code == 0, up.stderr
    assert json.loads(up.stdout)["phase"] == "Running"
    assert merged["current-context"] == "allotment-allotment"
    assert down.exit_code == 0, down.stderr
    assert yaml.safe_load(users.read_text())["contexts"] == []
    assert not list(Path(state).glob("clusters/*"))
