"""Every name that Allotment gives to things in the Kubernetes API: labels, annotations, finalizers, field managers.

One table (`NAMES`) carries the meaning of each; the reference page is generated from it. Programs import the
constants and never spell a name themselves.

It must never change a name without a migration: names are what running objects carry.
"""

from dataclasses import dataclass
from typing import Final, Literal

GROUP: Final = "allotment.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "allotment"

SCHEDULER_NAME: Final = "allotment"
TENANT_POLICY_NAME: Final = "allotment"
DEFAULT_POOL: Final = "default"

TENANT_LABEL: Final = f"{GROUP}/tenant"
POD_GROUP_LABEL: Final = f"{GROUP}/pod-group"
GANG_LABEL: Final = f"{GROUP}/gang"
PREEMPTIBLE_LABEL: Final = f"{GROUP}/preemptible"
INSTANCE_LABEL: Final = f"{GROUP}/instance"
KIND_LABEL: Final = f"{GROUP}/kind"
COMPONENT_LABEL: Final = f"{GROUP}/component"
POOL_LABEL: Final = f"{GROUP}/pool"

MAX_RUNTIME_ANNOTATION: Final = f"{GROUP}/max-runtime"
CHECKPOINTED_AT_ANNOTATION: Final = f"{GROUP}/checkpointed-at"
IGNORE_DISRUPTION_ANNOTATION: Final = f"{GROUP}/ignore-disruption"

FINALIZER: Final = f"{GROUP}/operator"

OPERATOR_FIELD_MANAGER: Final = "allotment-operator"
SCHEDULER_FIELD_MANAGER: Final = "allotment-scheduler"


@dataclass(frozen=True, slots=True)
class Name:
    """One name, with what reads and writes it."""

    sort: Literal["label", "annotation", "finalizer", "field manager", "name"]
    name: str
    carried_by: str
    set_by: str
    meaning: str


NAMES: Final[tuple[Name, ...]] = (
    Name(
        "label",
        TENANT_LABEL,
        "Namespace",
        "operator",
        "The leaf tenant that owns the namespace and all its pods. The operator sets it from Tenant.spec.namespaces, "
        "which wins over a value set by hand.",
    ),
    Name(
        "label",
        POD_GROUP_LABEL,
        "Pod",
        "you or the operator",
        "Makes the pod a member of the PodGroup of that name in its namespace, from its creation on.",
    ),
    Name(
        "label",
        GANG_LABEL,
        "Job",
        "you",
        'With the value "true" the Job\'s pods start together or not at all. The gang has '
        "min(parallelism, completions - succeeded - indexes failed for good) members, recomputed as pods finish. "
        "Without completions it has parallelism, and 1 once a pod has succeeded: no more are made then.",
    ),
    Name(
        "label",
        PREEMPTIBLE_LABEL,
        "Pod",
        "you or the operator",
        'With the value "false" the pod is never evicted; it starts only within its tenant\'s guarantee. A pod that is '
        "there can become preemptible, and not the other way round.",
    ),
    Name("label", INSTANCE_LABEL, "everything made for a service", "operator", "Name of the service's own resource."),
    Name("label", KIND_LABEL, "everything made for a service", "operator", "Kind of the service's own resource."),
    Name(
        "label",
        COMPONENT_LABEL,
        "everything made for a service",
        "operator",
        "Part of the service: broker, controller, node, driver, executor, master, worker, agent.",
    ),
    Name("label", POOL_LABEL, "pods of a KafkaCluster", "operator", "Pool of spec.pools that the pod belongs to."),
    Name(
        "annotation",
        MAX_RUNTIME_ANNOTATION,
        "Pod",
        "you",
        "Seconds after which the pod is over. Lets shorter pods run on nodes that are reserved for a larger one.",
    ),
    Name(
        "annotation",
        CHECKPOINTED_AT_ANNOTATION,
        "Pod",
        "your program",
        "Time (RFC 3339) of the pod's last checkpoint. Work since then is what an eviction would lose.",
    ),
    Name(
        "label",
        f"{GROUP}/instance-namespace",
        "Secrets in the operator's namespace",
        "operator",
        "Namespace of the service that an authority or credential kept by the operator belongs to.",
    ),
    Name("label", f"{GROUP}/attempt", "a SparkApplication's driver", "operator", "Number of the run, from 1."),
    Name("label", f"{GROUP}/rack", "pods of a CassandraCluster", "operator", "Rack that the pod belongs to."),
    Name("label", f"{GROUP}/listener", "Services of a KafkaCluster", "operator", "Listener that the Service exposes."),
    Name(
        "label",
        f"{GROUP}/aggregate-to-tenant-{{viewer,ci,developer,owner}}",
        "ClusterRole",
        "the platform's admins",
        'With the value "true" the role\'s rights are added to what members of that role may do in their namespaces.',
    ),
    Name("label", f"{GROUP}/simulated", "Node", "allot local", "A node that only exists on paper: nothing runs there."),
    Name("label", f"{GROUP}/real", "Node", "allot local", "A real node beside simulated ones."),
    Name("label", f"{GROUP}/local-pool", "Node", "allot local", "Pool of the local cluster's file that it came from."),
    Name(
        "annotation",
        IGNORE_DISRUPTION_ANNOTATION,
        "Job",
        "you",
        'With the value "false" the Job is left without the policy that keeps evictions from counting as failures. Its '
        "pods are then the last to be evicted.",
    ),
    Name(
        "annotation",
        f"{GROUP}/simulated-duration",
        "Pod",
        "you",
        "On simulated nodes: how long the pod of a Job runs, such as 90s; without it, a second.",
    ),
    Name("annotation", f"{GROUP}/simulated-exit-code", "Pod", "you", "On simulated nodes: how the pod of a Job ends."),
    Name(
        "annotation", f"{GROUP}/simulated-shutdown", "Pod", "you", "On simulated nodes: how long the pod takes to end."
    ),
    Name("annotation", f"{GROUP}/local-template", "Node", "allot local", "What the simulated node was made from."),
    Name(
        "annotation",
        f"{GROUP}/content",
        "pods of services",
        "operator",
        "Fingerprint of the configuration and certificates that the pod started with.",
    ),
    Name(
        "annotation",
        f"{GROUP}/same-content",
        "StatefulSets of services",
        "operator",
        "Fingerprints of pods that differ only by how their image is written, such as with or without `docker.io/`: "
        "they are not restarted.",
    ),
    Name("annotation", f"{GROUP}/authority", "Secret", "operator", "Fingerprint of the authority that signed it."),
    Name(
        "annotation",
        f"{GROUP}/certificate-ends",
        "Secret, pods of services",
        "operator",
        "When the certificate that it holds, or was started with, runs out.",
    ),
    Name(
        "annotation",
        f"{GROUP}/external-hosts",
        "Secret",
        "operator",
        "Names outside the cluster that a broker's certificate serves.",
    ),
    Name("annotation", f"{GROUP}/kafka-quorum", "StatefulSet", "operator", "The controllers that formed the quorum."),
    Name("annotation", f"{GROUP}/kafka-first-node-id", "claims of a broker", "operator", "First node id of its pool."),
    Name("annotation", f"{GROUP}/cassandra-seeds", "StatefulSet", "operator", "The nodes that others join through."),
    Name(
        "annotation",
        f"{GROUP}/config-checksum",
        "Deployment",
        "the chart",
        "Fingerprint of the program's configuration, so that a change restarts it.",
    ),
    Name("name", f"{GROUP}/local-disk", "StorageClass", "allot local", "Provisioner of volumes on real local nodes."),
    Name(
        "finalizer",
        FINALIZER,
        "Tenant and every service",
        "operator",
        "Holds the resource until the operator has taken down what belongs to it.",
    ),
    Name("field manager", OPERATOR_FIELD_MANAGER, "", "operator", "Owner of the fields that the operator applies."),
    Name("field manager", SCHEDULER_FIELD_MANAGER, "", "scheduler", "Owner of the fields that the scheduler applies."),
    Name("name", f"{GROUP}/scheduler", "Event", "scheduler", "Reporting controller of the scheduler's Events."),
    Name("name", SCHEDULER_NAME, "Pod", "admission policy", "The spec.schedulerName of every pod of a tenant."),
    Name(
        "name", TENANT_POLICY_NAME, "TenantPolicy", "operator", "Name of the one TenantPolicy in each tenant namespace."
    ),
    Name("name", DEFAULT_POOL, "NodePool", "you", "Name of the pool that holds every node no other pool selects."),
)
