"""Tenants on a real API server: the operator has its ServiceAccount's token, the chart's rights and its policies."""

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from allotment_api.labels import API_VERSION, INSTANCE_LABEL
from allotment_api.registry import KINDS
from allotment_operator.tenancy.furniture import POD_SECURITY
from builders.api_server import Actor, Answer
from builders.program_process import START_SECONDS, OperatorProcess, eventually
from builders.tenant_objects import (
    await_default_service_account,
    group,
    namespace_object,
    pod,
    retained_volume,
    role_binding,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

API = f"/apis/{API_VERSION}"
NETWORK = "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings"
TOPICS = "/apis/allotment.dev/v1alpha1/namespaces/{}/kafkatopics"
POLICIES = "/apis/allotment.dev/v1alpha1/namespaces/{}/tenantpolicies"
QUOTAS = "/api/v1/namespaces/{}/resourcequotas"


VOLUME = {"size": "1Gi", "deletionPolicy": "Delete"}
SERVICES: dict[str, dict[str, Any]] = {
    "KafkaCluster": {
        "pools": [{"name": "main", "replicas": 1, "storage": VOLUME}],
        "replication": {"factor": 1, "minInSync": 1},
    },
    "CassandraCluster": {"size": 1, "racks": [{"name": "r1"}], "storage": VOLUME},
    "SparkApplication": {"type": "Python", "mainApplicationFile": "local:///opt/spark/work-dir/pi.py"},
}
"""One of each, as small as they come; nothing places their pods here."""
CHILDREN = {
    **{kind: f"/api/v1/namespaces/{{}}/{kind}" for kind in ("pods", "persistentvolumeclaims", "secrets", "configmaps")},
    **{kind: f"/api/v1/namespaces/{{}}/{kind}" for kind in ("services", "serviceaccounts")},
    "statefulsets": "/apis/apps/v1/namespaces/{}/statefulsets",
    "poddisruptionbudgets": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "networkpolicies": NETWORK,
    "rolebindings": BINDINGS,
    "podgroups": "/apis/allotment.dev/v1alpha1/namespaces/{}/podgroups",
}
"""Everything that services are made of."""


def names(items: list[dict[str, Any]]) -> set[str]:
    return {each["metadata"]["name"] for each in items}


def restricted_pod(namespace: str, **spec: Any) -> dict[str, Any]:
    """A pod that the profile `restricted` admits, with changes."""
    container = {
        "name": "main",
        "image": "registry.bank/app:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return pod(namespace, spec={"containers": [container], "securityContext": context, **spec})


def accepted(answer: Answer) -> bool:
    """Whether a request went through; the reason why not ends up in the message of `eventually`."""
    assert answer.accepted, answer.message
    return True


def created(admin: Actor, path: str, manifest: dict[str, Any]) -> bool:
    """Whether an object could be made; new kinds may be refused until their quota is counted."""
    return accepted(admin.request("POST", path, manifest))


def a_topic(admin: Actor, namespace: str) -> bool:
    """Make a service that is there and does nothing: its cluster does not exist."""
    topic = {
        "apiVersion": "allotment.dev/v1alpha1",
        "kind": "KafkaTopic",
        "metadata": {"name": "orders", "namespace": namespace},
        "spec": {"cluster": "none", "paused": True},
    }
    return created(admin, TOPICS.format(namespace), topic)


class TestANewTenant:
    def test_gets_its_namespaces_furnished(self, estate: Any, operator: OperatorProcess) -> None:
        group = estate.add("group", members=[{"name": "auditors", "role": "viewer"}], policy={"maxPriority": 500})
        leaf = estate.add(
            "leaf",
            parent=group,
            namespaces=[estate.name("one"), estate.name("two")],
            members=[{"name": "devs", "role": "developer"}],
            services=[{"kind": "KafkaTopic", "count": 2}],
        )
        eventually(lambda: estate.ready(group, leaf), because=operator.tail)

        space = estate.namespace(estate.name("one"))
        assert space is not None
        assert space["metadata"]["labels"] == {
            "allotment.dev/tenant": leaf,
            "app.kubernetes.io/managed-by": "allotment",
            "kubernetes.io/metadata.name": estate.name("one"),
            **POD_SECURITY,
        }
        one = estate.name("one")
        assert names(estate.items(BINDINGS.format(one))) == {
            "allotment-operator-tenant",
            "allotment-developer",
            "allotment-viewer",
        }
        assert "allotment-default-deny" in names(estate.items(NETWORK.format(one)))
        [policy] = estate.items(POLICIES.format(one))
        assert (policy["spec"]["tenant"], policy["spec"]["maxPriority"]) == (leaf, 500)
        [quota] = estate.items(QUOTAS.format(one))
        assert quota["spec"]["hard"]["count/kafkatopics.allotment.dev"] == "2"
        assert quota["spec"]["hard"]["count/kafkaclusters.allotment.dev"] == "0"
        eventually(lambda: estate.items(QUOTAS.format(one))[0]["status"]["used"].keys() == quota["spec"]["hard"].keys())
        assert [each["phase"] for each in (estate.get(leaf) or {})["status"]["namespaces"]] == ["Ready", "Ready"]

    def test_lets_its_members_in_and_nobody_else(self, estate: Any, user: Callable[..., Actor]) -> None:
        leaf = estate.add(
            "leaf", namespaces=[estate.name("space")], members=[{"name": "insiders", "role": "developer"}]
        )
        eventually(lambda: estate.ready(leaf))
        await_default_service_account(estate.admin, estate.name("space"))
        insider, outsider = user("ann", "insiders"), user("oz", "outsiders")

        eventually(lambda: accepted(insider.create(restricted_pod(estate.name("space")), dry_run=True)))

        assert outsider.create(restricted_pod(estate.name("space")), dry_run=True).status == 403
        free = restricted_pod(estate.name("space"))
        free["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "0", "memory": "0"}}
        assert "minimum cpu usage per Container is 1m, but request is 0" in insider.create(free, dry_run=True).message
        assert not outsider.allowed("get", "secrets", namespace=estate.name("space"))
        assert insider.allowed("get", "secrets", namespace=estate.name("space"))

    def test_starts_no_privileged_pod(self, estate: Any) -> None:
        leaf = estate.add("leaf", namespaces=[estate.name("space")])
        eventually(lambda: estate.ready(leaf))
        await_default_service_account(estate.admin, estate.name("space"))

        answer = estate.admin.create(restricted_pod(estate.name("space"), hostNetwork=True), dry_run=True)

        assert answer.status == 403
        assert "restricted" in answer.message

    def test_takes_over_a_namespace_that_exists_and_gives_it_back_alive(self, estate: Any) -> None:
        space = estate.name("old")
        estate.admin.create(namespace_object(space, None, team="blue"))
        keep = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keep", "namespace": space}}
        estate.admin.create(keep)
        leaf = estate.add("leaf", namespaces=[space], members=[{"name": "devs", "role": "owner"}])
        eventually(lambda: estate.ready(leaf))

        estate.delete(leaf)
        eventually(lambda: estate.get(leaf) is None)

        left = estate.namespace(space)
        assert left is not None
        assert left["metadata"]["labels"] == {"kubernetes.io/metadata.name": space, "team": "blue", **POD_SECURITY}
        assert estate.admin.get(keep).accepted
        assert not estate.items(BINDINGS.format(space))
        assert not estate.items(NETWORK.format(space))
        estate.admin.delete(namespace_object(space))


class TestAChange:
    def test_moves_a_namespace_to_another_tenant_with_everything_in_it(self, estate: Any) -> None:
        space = estate.name("space")
        first = estate.add("first", namespaces=[space], members=[{"name": "first-owners", "role": "owner"}])
        second = estate.add("second", members=[{"name": "second-devs", "role": "developer"}])
        eventually(lambda: estate.ready(first))
        eventually(lambda: a_topic(estate.admin, space))
        wall = f"{NETWORK.format(space)}/allotment-default-deny"
        before = estate.admin.request("GET", wall).body["metadata"]["uid"]

        estate.change(first, namespaces=[])
        eventually(
            lambda: "still has" in str((estate.get(first) or {})["status"]) or "but has" in str(estate.get(first))
        )
        estate.change(second, namespaces=[space])
        eventually(
            lambda: (
                estate.ready(second) and estate.namespace(space)["metadata"]["labels"]["allotment.dev/tenant"] == second
            )
        )

        assert names(estate.items(TOPICS.format(space))) == {"orders"}
        assert names(estate.items(BINDINGS.format(space))) == {"allotment-operator-tenant", "allotment-developer"}
        [policy] = estate.items(POLICIES.format(space))
        assert policy["spec"]["tenant"] == second
        assert estate.admin.request("GET", wall).body["metadata"]["uid"] == before, "it stood all the time"
        eventually(lambda: (estate.get(first) or {})["status"].get("namespaces", []) == [])

    def test_is_undone_where_somebody_else_made_it(self, estate: Any) -> None:
        space = estate.name("space")
        leaf = estate.add("leaf", namespaces=[space])
        eventually(lambda: estate.ready(leaf))
        wall = f"{NETWORK.format(space)}/allotment-default-deny"
        assert estate.admin.request("DELETE", wall).accepted

        eventually(lambda: estate.admin.request("GET", wall).accepted)

    def test_of_a_pause_leaves_everything_alone_until_it_ends(self, estate: Any) -> None:
        leaf = estate.add("leaf", paused=True, namespaces=[estate.name("space")])
        eventually(lambda: estate.condition(leaf, "Paused").get("status") == "True")
        assert estate.namespace(estate.name("space")) is None

        estate.change(leaf, paused=False)

        eventually(lambda: estate.ready(leaf))


class TestASeatWhoseNameIsTaken:
    def test_keeps_nobody_in_and_no_other_namespace_from_its_rules(self, estate: Any) -> None:
        """As may be in a namespace that was there before: a RoleBinding cannot change its role."""
        old, new = estate.name("old"), estate.name("new")
        estate.admin.create(namespace_object(old, None))
        taken = role_binding(old, "allotment-ci", "view", group("somebody"))
        assert estate.admin.create(taken).accepted
        owners = [{"name": "stays", "role": "owner"}, {"name": "goes", "role": "owner"}]
        leaf = estate.add("leaf", namespaces=[old], members=owners)
        eventually(lambda: estate.ready(leaf))

        estate.change(leaf, namespaces=[old, new], members=[owners[0], {"name": "pipeline", "role": "ci"}])

        def owners_of(space: str) -> list[str]:
            found = estate.items(BINDINGS.format(space))
            return [
                who["name"]
                for each in found
                if each["metadata"]["name"] == "allotment-owner"
                for who in each["subjects"]
            ]

        eventually(lambda: owners_of(old) == owners_of(new) == ["stays"])
        eventually(lambda: "allotment-ci" in estate.condition(leaf, "Degraded").get("message", ""))
        said = estate.condition(leaf, "Degraded")["message"]
        assert f"RoleBinding {old}/allotment-ci exists already and binds view: delete it" in said
        assert "allotment-ci" in names(estate.items(BINDINGS.format(new)))
        estate.admin.delete(taken)
        eventually(lambda: estate.condition(leaf, "Degraded").get("status") == "False")
        estate.delete(leaf)
        eventually(lambda: estate.get(leaf) is None)
        estate.admin.delete(namespace_object(old))


class TestABadTenant:
    def test_is_told_why_and_others_go_on(self, estate: Any) -> None:
        lost = estate.add("lost", parent=estate.name("nobody"), namespaces=[estate.name("lost")])
        ant = estate.add("ant")
        bee = estate.add("bee", parent=ant)
        estate.change(ant, parent=bee)
        older = estate.add("older", namespaces=[estate.name("both")])
        time.sleep(1.1)  # creation has a resolution of a second, and the names would decide
        rival = estate.add("a-rival", namespaces=[estate.name("both"), estate.name("own")])
        good = estate.add("good", namespaces=[estate.name("good")])

        eventually(lambda: estate.ready(good, older))
        eventually(lambda: estate.condition(bee, "Valid").get("reason") == "ParentCycle")
        assert f"{bee} → {ant} → {bee}" in estate.condition(bee, "Valid")["message"]
        eventually(lambda: estate.condition(lost, "Valid").get("reason") == "ParentNotFound")
        assert estate.name("nobody") in estate.condition(lost, "Valid")["message"]
        assert estate.namespace(estate.name("lost")) is None
        eventually(lambda: estate.condition(rival).get("reason") == "NamespaceTaken")
        assert older in estate.condition(rival)["message"]
        eventually(lambda: {"Taken", "Ready"} == {each["phase"] for each in estate.get(rival)["status"]["namespaces"]})
        assert estate.namespace(estate.name("both"))["metadata"]["labels"]["allotment.dev/tenant"] == older

        estate.change(ant, parent=None)
        eventually(lambda: estate.ready(ant, bee))

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ({"weight": -1}, "spec.weight"),
            ({"guaranteed": {"cpu": "ten"}}, "spec.guaranteed"),
            ({"guaranteed": {"cpu": "10"}, "limits": {"cpu": "5"}}, "must not exceed"),
            ({"namespaces": ["kube-system"]}, "belong to the cluster"),
            ({"members": [{"name": "x", "role": "king"}]}, "spec.members"),
        ],
    )
    def test_with_bad_values_is_refused_with_the_field(self, estate: Any, spec: dict[str, Any], said: str) -> None:
        answer = estate.admin.create(
            {
                "apiVersion": "allotment.dev/v1alpha1",
                "kind": "Tenant",
                "metadata": {"name": estate.name("bad")},
                "spec": spec,
            }
        )

        assert not answer.accepted
        assert said in answer.message


class TestDeletion:
    def test_waits_for_services_and_says_which(self, estate: Any) -> None:
        space = estate.name("space")
        leaf = estate.add("leaf", namespaces=[space])
        eventually(lambda: estate.ready(leaf))
        eventually(lambda: a_topic(estate.admin, space))

        estate.delete(leaf)
        eventually(lambda: estate.condition(leaf).get("reason") == "DeletionBlocked")
        assert f"KafkaTopic {space}/orders" in estate.condition(leaf)["message"]
        assert estate.namespace(space) is not None

        estate.change(leaf, deletionPolicy="Cascade")
        eventually(lambda: estate.get(leaf) is None)
        eventually(lambda: estate.namespace(space) is None)

    def test_leaves_a_namespace_in_which_a_service_retained_a_volume(self, estate: Any) -> None:
        space, bare = estate.name("space"), estate.name("bare")
        leaf = estate.add("leaf", namespaces=[space, bare])
        eventually(lambda: estate.ready(leaf))
        volume, claim = retained_volume(space)
        try:
            assert estate.admin.create(volume).accepted
            assert created(estate.admin, f"/api/v1/namespaces/{space}/persistentvolumeclaims", claim)
            eventually(lambda: estate.admin.get(claim).body["status"]["phase"] == "Bound")

            estate.delete(leaf)

            eventually(lambda: estate.get(leaf) is None)
            eventually(lambda: estate.namespace(bare) is None)
            kept = estate.namespace(space)
            assert "deletionTimestamp" not in kept["metadata"]
            assert "allotment.dev/tenant" not in kept["metadata"]["labels"]
            assert "deletionTimestamp" not in estate.admin.get(claim).body["metadata"]
            assert not estate.items(NETWORK.format(space))
            assert not estate.items(BINDINGS.format(space))
            told = estate.items(f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name={leaf}")
            assert [each["type"] for each in told if each["reason"] == "VolumesRetained"] == ["Warning"]
        finally:
            estate.admin.delete(namespace_object(space))
            estate.admin.delete(volume)

    def test_waits_for_the_tenants_below(self, estate: Any) -> None:
        group = estate.add("group")
        leaf = estate.add("leaf", parent=group)
        eventually(lambda: estate.ready(group, leaf))

        estate.delete(group)
        eventually(lambda: estate.condition(group).get("reason") == "DeletionBlocked")
        assert leaf in estate.condition(group)["message"]

        estate.delete(leaf)
        eventually(lambda: estate.get(group) is None)

    def test_while_the_operator_is_down_is_done_when_it_is_up(self, estate: Any, operator: OperatorProcess) -> None:
        space = estate.name("space")
        leaf = estate.add("leaf", namespaces=[space])
        eventually(lambda: estate.ready(leaf))
        assert operator.stop() == 0
        estate.delete(leaf)
        assert estate.get(leaf) is not None

        operator.start()

        eventually(lambda: estate.get(leaf) is None)
        eventually(lambda: estate.namespace(space) is None)

    def test_of_services_while_the_operator_is_down_leaves_nothing_of_them(
        self, estate: Any, operator: OperatorProcess
    ) -> None:
        space = estate.name("space")
        leaf = estate.add("leaf", namespaces=[space])
        eventually(lambda: estate.ready(leaf))
        paths = {kind: f"{API}/namespaces/{space}/{KINDS[kind].definition.plural}" for kind in SERVICES}
        for kind, spec in SERVICES.items():
            manifest = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "gone"}, "spec": spec}
            eventually(partial(created, estate.admin, paths[kind], manifest))

        def left(*kinds: str) -> set[str]:
            found = {
                f"{kind} {each['metadata']['name']}"
                for kind in kinds or CHILDREN
                for each in estate.items(f"{CHILDREN[kind]}?labelSelector={INSTANCE_LABEL}%3Dgone".format(space))
            }
            return found | {
                f"{each['metadata']['namespace']}'s secret {each['metadata']['name']}"
                for each in estate.items(f"/api/v1/secrets?labelSelector={INSTANCE_LABEL}%3Dgone")
                if each["metadata"]["name"].startswith(f"{space}-")
            }

        # Kafka's and Cassandra's first pods, Spark's driver: each with what it needs.
        eventually(lambda: len(left("pods")) >= 3 and len(left("persistentvolumeclaims")) >= 2, because=operator.tail)
        assert operator.stop() == 0
        for path in paths.values():
            estate.admin.request("DELETE", f"{path}/gone")
        assert left("pods"), "nobody is there to take them down"

        operator.start()

        eventually(lambda: not left(), because=lambda: f"{left()} {operator.tail()}")


class TestTheOperator:
    def test_converges_however_often_it_is_killed(
        self, estate: Any, operator: OperatorProcess, power_cut: Callable[[], None]
    ) -> None:
        rng = random.Random(7)
        group = estate.add("group")
        leaves = [
            estate.add(
                f"leaf{number}", parent=group, namespaces=[estate.name(f"n{number}a"), estate.name(f"n{number}b")]
            )
            for number in range(4)
        ]
        for _ in range(2):
            time.sleep(rng.uniform(0.0, 0.25))
            power_cut()
        eventually(lambda: estate.ready(group, *leaves), because=operator.tail)

        for number, leaf in enumerate(leaves):
            for space in (estate.name(f"n{number}a"), estate.name(f"n{number}b")):
                assert estate.namespace(space)["metadata"]["labels"]["allotment.dev/tenant"] == leaf
                assert len(estate.items(NETWORK.format(space))) == 5
                assert len(estate.items(POLICIES.format(space))) == 1
                assert len(estate.items(QUOTAS.format(space))) == 1

        for name in (*leaves, group):
            estate.delete(name)
        time.sleep(rng.uniform(0.5, 2.0))
        power_cut()
        eventually(lambda: not any(estate.get(name) for name in (*leaves, group)), because=operator.tail)
        spaces = [estate.name(f"n{number}{half}") for number in range(4) for half in "ab"]
        eventually(lambda: not any(estate.namespace(space) for space in spaces))

    def test_stands_by_while_another_is_at_work(self, estate: Any, operator: OperatorProcess) -> None:
        second = OperatorProcess(operator.kubeconfig, operator.log.with_name("second.log"))
        second.start(wait=False)
        try:
            eventually(lambda: second.get("/readyz") == "ok\n", because=second.tail)
            leaf = estate.add("leaf", namespaces=[estate.name("space")])
            eventually(lambda: estate.ready(leaf))
            assert "allotment_operator_leader 0.0" in eventually(lambda: second.get("/metrics"), because=second.tail)

            operator.kill()
            eventually(second.at_work, because=second.tail, timeout=START_SECONDS)
            estate.delete(leaf)
            eventually(lambda: estate.get(leaf) is None)
        finally:
            assert second.stop() == 0

    def test_tells_what_it_does_on_whose_behalf(self, estate: Any, operator: OperatorProcess) -> None:
        leaf = estate.add("leaf", namespaces=[estate.name("space")])
        eventually(lambda: estate.ready(leaf))

        # A step may have failed before, while the authorizer did not know of the operator's seat yet.
        trail = [line for line in operator.lines() if line.get("audit") and line["name"] == leaf]
        assert {(line["action"], line["subject"]) for line in trail if line["outcome"] == "done"} >= {
            ("created", f"Namespace {estate.name('space')}"),
            ("created", f"NetworkPolicy {estate.name('space')}/allotment-default-deny"),
        }
        page = eventually(lambda: operator.get("/metrics"), because=operator.tail)
        assert 'allotment_operator_resources{kind="Tenant",ready="True"}' in page

        def told() -> bool:
            """Events are written behind the round that they tell of."""
            events = estate.items("/apis/events.k8s.io/v1/namespaces/default/events")
            return "AsExpected" in {each["reason"] for each in events if each["regarding"]["name"] == leaf}

        eventually(told, because=operator.tail)
