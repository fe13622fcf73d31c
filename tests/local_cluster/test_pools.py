"""Node pool files: what is taken, what is refused and with which words, and the nodes they become."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from allotment_local import nodes
from allotment_local.errors import InvalidInputError
from allotment_local.pools import Pool, PoolFile, read_pools

EXAMPLES = Path(__file__).parents[2] / "examples" / "local"


def pool(**changes: Any) -> dict[str, Any]:
    return {"name": "cpu", "count": 2, "cpu": 16, "memory": "64Gi", **changes}


def node(index: int = 0, **changes: Any) -> dict[str, Any]:
    return nodes.node_object(Pool.model_validate(pool(**changes)), index, version="v1.36.3", now="2026-03-01T12:00:00Z")


def read(tmp_path: Path, content: object) -> PoolFile:
    path = tmp_path / "pools.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return read_pools(path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    assert read_pools(path).pools


def test_a_short_file_is_enough(tmp_path: Path) -> None:
    file = read(tmp_path, "pools: [{name: cpu, count: 2, cpu: 16, memory: 64Gi}]")

    assert [(each.name, each.count, each.cpu, each.gpu, each.pods) for each in file.pools] == [("cpu", 2, "16", 0, 110)]


def test_a_bare_list_of_pools_is_taken_too(tmp_path: Path) -> None:
    assert read(tmp_path, [pool()]).pools[0].name == "cpu"


@pytest.mark.parametrize(
    ("content", "want"),
    [
        pytest.param({"pools": [pool(count=-1)]}, "pools[0] (cpu).count", id="a negative count"),
        pytest.param({"pools": [pool(), pool(name="b", memory="lots")]}, "pools[1] (b).memory", id="no quantity"),
        pytest.param({"pools": [pool(memory="lots")]}, "is no quantity such as 16, 500m or 64Gi", id="what is right"),
        pytest.param({"pools": [pool(gpus=4)]}, "pools[0] (cpu).gpus: Extra inputs", id="an unknown field"),
        pytest.param({"pools": [{"name": "cpu"}]}, "pools[0] (cpu).count: Field required", id="a missing field"),
        pytest.param({"pools": [pool(name="Big_Pool")]}, "pools[0] (Big_Pool).name", id="a name no node can have"),
        pytest.param({"pools": [pool(), pool()]}, "pool names must differ: cpu", id="one name twice"),
        pytest.param({"pools": [pool(taints=["x"])]}, "key=value:Effect", id="a taint without effect"),
        pytest.param({"pools": [pool(taints=["x:Never"])]}, "'NoSchedule'", id="an effect that does not exist"),
        pytest.param({"pools": [pool(labels={"a b": "c"})]}, "is no valid label", id="a bad label key"),
        pytest.param({"pools": [pool(labels={"a": "c d"})]}, "(cpu).labels.a: is no valid label", id="a bad label"),
        pytest.param({"pools": [pool(count=15_000), pool(name="b", count=15_000)]}, "30000 nodes", id="far too many"),
        pytest.param({"pools": []}, "pools: ", id="no pools"),
        pytest.param("just text", "pools: Field required", id="something else"),
        pytest.param("pools: [", "is no YAML", id="no YAML at all"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_field(tmp_path: Path, content: object, want: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(tmp_path, content)

    assert want in caught.value.message
    assert "pools.yaml" in caught.value.message
    assert caught.value.exit_code == 2


def test_a_missing_file_says_where_examples_are() -> None:
    with pytest.raises(InvalidInputError, match=r"No such file(.|\n)*examples/local"):
        read_pools(Path("/nonexistent/pools.yaml"))


def test_a_node_has_the_capacity_and_labels_of_its_pool() -> None:
    made = node(1, gpu=4, labels={"disk": True}, zones=["a", "b"], resources={"example.com/nic": 2})

    assert made["status"]["capacity"] == {
        "cpu": "16",
        "memory": "64Gi",
        "pods": "110",
        "ephemeral-storage": "1Ti",
        "example.com/nic": "2",
        "nvidia.com/gpu": "4",
    }
    assert made["metadata"]["name"] == "cpu-1"
    assert made["metadata"]["labels"]["topology.kubernetes.io/zone"] == "b"
    assert made["metadata"]["labels"]["disk"] == "true"


def test_every_simulated_node_says_that_it_is_simulated() -> None:
    assert node()["metadata"]["labels"]["allotment.dev/simulated"] == "true"


@pytest.mark.parametrize(
    ("written", "want"),
    [
        ("gpu=yes:NoSchedule", {"key": "gpu", "value": "yes", "effect": "NoSchedule"}),
        ("gpu:NoExecute", {"key": "gpu", "effect": "NoExecute"}),
        ({"key": "gpu", "effect": "PreferNoSchedule"}, {"key": "gpu", "effect": "PreferNoSchedule"}),
    ],
)
def test_taints_are_read_in_both_forms(written: object, want: dict[str, str]) -> None:
    assert node(taints=[written])["spec"]["taints"] == [want]


def test_nodes_of_a_changed_pool_are_told_apart_from_the_old_ones() -> None:
    def template(**changes: Any) -> str:
        return str(node(**changes)["metadata"]["annotations"][nodes.TEMPLATE_ANNOTATION])

    assert template() == template()
    assert len({template(), template(cpu=17), template(labels={"a": "b"}), template(gpu=1)}) == 4


@pytest.mark.parametrize(
    ("ready", "taints", "want"),
    [
        ("True", [], True),
        ("False", [], False),
        ("True", [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}], False),
        ("True", [{"key": "gpu", "effect": "NoSchedule"}], True),
    ],
)
def test_a_node_is_usable_when_ready_and_untainted(ready: str, taints: list[dict[str, str]], want: bool) -> None:
    made = {"status": {"conditions": [{"type": "Ready", "status": ready}]}, "spec": {"taints": taints}}

    assert nodes.is_usable(made) is want
