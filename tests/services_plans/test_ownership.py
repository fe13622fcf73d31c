"""Whose an object is: labels find it, descent decides."""

from typing import Any

import pytest

from allotment_operator.kind import ServiceRefusedError
from allotment_operator.plans.actions import ObjectRef
from allotment_operator.plans.ownership import Owner, strangers
from allotment_operator.reconcile.executor import refuse_anothers

OWNER = Owner("allotment.dev/v1alpha1", "KafkaCluster", "payments", "trades", "uid-1")
FORMER = Owner("allotment.dev/v1alpha1", "KafkaCluster", "payments", "trades", "uid-0")
OTHER = Owner("allotment.dev/v1alpha1", "KafkaCluster", "payments", "quotes", "uid-2")


def thing(kind: str, name: str, *owners: dict[str, Any], namespace: str = "payments") -> dict[str, Any]:
    """An object that wears the labels of OWNER."""
    version = "apps/v1" if kind == "StatefulSet" else "v1"
    metadata = {"name": name, "namespace": namespace, "labels": OWNER.selector, "ownerReferences": list(owners)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def by(manifest: dict[str, Any]) -> dict[str, Any]:
    """The owner reference of what another object made."""
    name = manifest["metadata"]["name"]
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "name": name, "controller": True}


BROKERS = thing("StatefulSet", "trades-brokers", OWNER.reference)
DRIVER = thing("Pod", "trades-driver", OWNER.reference)
FOREIGN = thing("StatefulSet", "trades-foreign")


@pytest.mark.parametrize(
    "child",
    [
        thing("Secret", "trades-kafka", OWNER.reference),
        thing("Secret", "trades-kafka", FORMER.reference),
        thing("Pod", "trades-brokers-0", by(BROKERS)),
        thing("Pod", "trades-exec-1", by(DRIVER)),
        thing("Pod", "trades-gone-0", by(thing("StatefulSet", "trades-gone"))),
        thing("PersistentVolumeClaim", "data-trades-brokers-0"),
        thing("Secret", "payments.trades-ca", namespace="allotment-system"),
    ],
    ids=[
        "what the operator made",
        "what it made for a predecessor under the same name",
        "a pod of its StatefulSet",
        "an executor of its driver",
        "a pod whose StatefulSet has gone before it",
        "a claim of its StatefulSet",
        "an authority in the operator's own namespace",
    ],
)
def test_is_a_child(child: dict[str, Any]) -> None:
    found = {ObjectRef.of(each): each for each in (BROKERS, DRIVER, child)}

    assert strangers(OWNER, found) == frozenset()


@pytest.mark.parametrize(
    "stranger",
    [
        thing("Secret", "trades-kafka"),
        thing("ConfigMap", "mine", OTHER.reference),
        thing("Pod", "debug"),
        thing(
            "Pod", "web-1", {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "trades-web", "controller": True}
        ),
        thing("Pod", "db-0", by(thing("StatefulSet", "db"))),
        thing("Pod", "trades-foreign-0", by(FOREIGN)),
        thing("PersistentVolumeClaim", "photos"),
        thing("PersistentVolumeClaim", "data-quotes-brokers-0"),
    ],
    ids=[
        "a Secret of somebody's",
        "another service's",
        "a pod of nobody's",
        "a Deployment's pod",
        "another StatefulSet's pod",
        "a pod of a StatefulSet that only wears the labels",
        "a claim by another name",
        "another service's claim",
    ],
)
def test_only_wears_the_labels(stranger: dict[str, Any]) -> None:
    found = {ObjectRef.of(each): each for each in (BROKERS, DRIVER, FOREIGN, stranger)}

    assert strangers(OWNER, found) == {ObjectRef.of(stranger), ObjectRef.of(FOREIGN)}


class TestAName:
    WANTED = thing("Secret", "trades-kafka", OWNER.reference)

    @pytest.mark.parametrize("live", [None, WANTED, thing("Secret", "trades-kafka", FORMER.reference)])
    def test_that_is_free_or_ones_own_is_taken(self, live: dict[str, Any] | None) -> None:
        refuse_anothers(live, self.WANTED)

    @pytest.mark.parametrize(
        ("live", "whose"),
        [
            (thing("Secret", "trades-kafka"), "was made by somebody else"),
            ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "trades-kafka"}}, "was made by somebody else"),
            (
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "trades-kafka", "labels": OTHER.selector}},
                "belongs to KafkaCluster quotes",
            ),
        ],
        ids=["one that wears the labels", "one without labels", "another service's"],
    )
    def test_that_somebody_else_has_is_refused_with_what_to_do(self, live: dict[str, Any], whose: str) -> None:
        with pytest.raises(ServiceRefusedError, match=f"exists already and {whose}: delete or rename one of the two"):
            refuse_anothers(live, self.WANTED)
