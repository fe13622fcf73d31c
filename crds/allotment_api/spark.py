"""SparkApplication and SparkCluster: one run of a Spark program, and a standing Spark cluster.

How it thinks: field names are those of the kubeflow spark-operator (v1beta2) where one exists, so that most of a
manifest moves over as it is. Memory is in Spark's notation (``4g``), as there. An application is a gang: the driver
and its first executors are admitted together, so that no driver waits for executors that never come.

Invariants: the operator starts the driver itself, so everything that decides where and as whom it runs is derived and
cannot be set in `sparkConf`.

Source: kubeflow/spark-operator api/v1beta2, Apache Spark's configuration.
"""

import re
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from allotment_api.conditions import Conditions
from allotment_api.environment import EnvVar, NamePath
from allotment_api.model import Bool, Count, Int, Model, Rule, Seconds, Timestamp, no_keys_like
from allotment_api.names import (
    DnsName,
    Message,
    NodeLabels,
    ResourceList,
    StringMap,
    Tolerations,
    is_label_key,
)
from allotment_api.quantities import CPU, MEMORY, Quantity, QuantityError, quantity, spark_memory_bytes
from allotment_api.resource import (
    AGE,
    LABEL_NAME,
    STARTS_WITH_LETTER,
    Column,
    Definition,
    Resource,
    Scale,
    ready_column,
    reason_column,
)
from allotment_api.service import Placement, ReplicatedStatus, Resources, ServiceSpec

DEFAULT_VERSION: Final = "4.3.0"


def _is_memory(text: str) -> bool:
    try:
        return spark_memory_bytes(text) > 0
    except QuantityError:
        return False


JavaMemory = Annotated[
    str,
    Field(min_length=1, max_length=16),
    Rule(
        "self.matches('^0*[1-9][0-9]*[kKmMgGtT]?[bB]?$')",
        "must be in Spark's notation, such as 512m or 4g (not 4Gi)",
        _is_memory,
    ),
]
"""A size in Spark's notation: 512m is 512 MiB."""

SparkVersion = Annotated[
    str,
    Field(max_length=32),
    Rule(
        "self.matches('^[0-9]+[.][0-9]+[.][0-9]+$')",
        "must be a full version such as 4.3.0",
        lambda version: re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version) is not None,
    ),
]

SparkConf = Annotated[
    StringMap,
    no_keys_like(
        "^spark[.]((driver|executor)[.](cores|memory|memoryOverhead|instances)|dynamicAllocation[.](enabled|"
        "minExecutors|maxExecutors|initialExecutors))$",
        "sparkConf must not size driver or executors: remove the key and use the fields of driver, executor "
        "(or workers) and dynamicAllocation",
    ),
    no_keys_like(
        "^spark[.](master|submit[.]deployMode|authenticate|driver[.](host|port|bindAddress|blockManager[.]port)|"
        "kubernetes[.](namespace|driver[.]pod|driver[.]podTemplate|executor[.]podTemplate|authenticate|container[.]image|"
        "driver[.]container|executor[.]container|scheduler))",
        "sparkConf must not say where, as whom or from which image pods run, the operator derives it: remove the key",
    ),
]
"""Spark's own properties."""

ApplicationConf = Annotated[
    SparkConf,
    no_keys_like(
        "^spark[.](memory[.]offHeap[.](enabled|size)|executor[.](pyspark[.]memory|resource[.].*))$",
        "sparkConf must not make executors larger than the room that is held for them: remove the key; memory beside "
        "the heap is executor.memoryOverhead, devices are executor.gpu",
    ),
]
"""Spark's own properties where Spark makes the executors' pods, and adds to them what these keys say."""

Uris = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...], Field(max_length=256)]


class GpuSpec(Model):
    """GPUs, or other devices, of each pod."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=317),
        Rule(
            "self.contains('/') && !format.qualifiedName().validate(self).hasValue()",
            "must be a device's resource name with its domain, such as nvidia.com/gpu",
            lambda name: "/" in name and is_label_key(name),
        ),
    ] = "nvidia.com/gpu"
    """Resource name of the device."""

    quantity: Annotated[Int, Field(ge=1, le=1024)]
    """How many for each pod."""


class SparkPodSpec(Model):
    """What driver and executors have in common."""

    cores: Annotated[Int, Field(ge=1, le=1024)] = 1
    """Tasks that Spark runs at once in the pod."""

    core_request: Quantity | None = None
    """CPUs that the pod requests; absent: as many as `cores`."""

    core_limit: Quantity | None = None
    """CPUs that the pod may use at most; absent: no bound."""

    memory: JavaMemory = "2g"
    """Heap, in Spark's notation."""

    memory_overhead: JavaMemory | None = None
    """Memory beside the heap; absent: a tenth of it, two fifths for Python and R, at least 384m."""

    gpu: GpuSpec | None = None
    """GPUs of each pod."""

    env: Annotated[tuple[EnvVar, ...], Field(max_length=128)] = ()
    """Environment variables."""

    secrets: Annotated[tuple[NamePath, ...], Field(max_length=32)] = ()
    """Secrets mounted as files."""

    config_maps: Annotated[tuple[NamePath, ...], Field(max_length=32)] = ()
    """ConfigMaps mounted as files."""

    java_options: Annotated[str, Field(max_length=4096)] | None = None
    """Options of the Java virtual machine."""

    labels: NodeLabels = Field(default_factory=dict)
    """Labels of the pods."""

    annotations: StringMap = Field(default_factory=dict)
    """Annotations of the pods."""

    node_selector: NodeLabels = Field(default_factory=dict)
    """Labels that the node must carry."""

    tolerations: Tolerations = ()
    """Taints that the pods may ignore. Taints of pools that the tenant may not use are refused."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.coreRequest) || !has(self.coreLimit) || !isQuantity(string(self.coreRequest)) || "
            "!isQuantity(string(self.coreLimit)) || "
            "quantity(string(self.coreRequest)).compareTo(quantity(string(self.coreLimit))) <= 0",
            "coreRequest must not exceed coreLimit: raise the limit or lower the request",
            lambda it: it.core_request is None or it.core_limit is None or it.core_request <= it.core_limit,
            field_path=".coreRequest",
        ),
    )


class DriverSpec(SparkPodSpec):
    """The pod that runs the program itself."""

    service_account: DnsName | None = None
    """ServiceAccount that the driver makes its executors with; absent: one that the operator makes."""


class ExecutorSpec(SparkPodSpec):
    """The pods that do the work."""

    instances: Annotated[Int, Field(ge=1, le=10_000)] = 2
    """Number of executors. With dynamic allocation: the number at the start, unless initialExecutors says otherwise."""

    memory: JavaMemory = "4g"
    """Heap, in Spark's notation."""


class DynamicAllocation(Model):
    """Executors come and go with the work."""

    enabled: Bool = False
    """Whether it is on."""

    initial_executors: Annotated[Int, Field(ge=0, le=10_000)] | None = None
    """Executors at the start; absent: minExecutors."""

    min_executors: Annotated[Int, Field(ge=0, le=10_000)] = 0
    """Executors that are kept, and admitted together with the driver."""

    max_executors: Annotated[Int, Field(ge=1, le=10_000)] = 10
    """Executors at most."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.minExecutors <= self.maxExecutors",
            "minExecutors must not exceed maxExecutors: lower the first or raise the second",
            lambda it: it.min_executors <= it.max_executors,
        ),
        Rule(
            "!has(self.initialExecutors) || "
            "(self.minExecutors <= self.initialExecutors && self.initialExecutors <= self.maxExecutors)",
            "initialExecutors must lie between minExecutors and maxExecutors",
            lambda it: it.initial_executors is None or it.min_executors <= it.initial_executors <= it.max_executors,
        ),
    )


class RestartPolicy(Model):
    """What happens when the program ends."""

    type: Literal["Never", "OnFailure", "Always"] = "Never"
    """Never: one attempt. OnFailure: again when it failed. Always: again in any case, for streaming."""

    on_failure_retries: Annotated[Int, Field(ge=0, le=1000)] = 3
    """Further attempts after failed runs, for OnFailure."""

    on_failure_retry_interval: Seconds = 10
    """Seconds before the next attempt; doubles with each."""


class Dependencies(Model):
    """Files and packages that the program needs."""

    jars: Uris = ()
    """Jars for driver and executors."""

    files: Uris = ()
    """Files put into the working directory of driver and executors."""

    py_files: Uris = ()
    """Python files, zips and eggs."""

    archives: Uris = ()
    """Archives unpacked in the working directory of executors."""

    packages: Uris = ()
    """Maven packages, as group:artifact:version."""

    exclude_packages: Uris = ()
    """Maven packages, as group:artifact, to leave out."""

    repositories: Uris = ()
    """Maven repositories to search besides the usual ones."""


class SparkApplicationSpec(ServiceSpec):
    """One run of a Spark program: a driver and its executors, admitted together."""

    type: Literal["Java", "Python", "Scala", "R"] = "Scala"
    """Language of the program."""

    mode: Literal["cluster"] = "cluster"
    """Where the driver runs: in the cluster. The field is here for manifests that say so."""

    spark_version: SparkVersion = DEFAULT_VERSION
    """Version of Spark."""

    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When the image is pulled."""

    main_class: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Class with the program's main method, for Java and Scala."""

    main_application_file: Annotated[str, Field(min_length=1, max_length=1024)]
    """The program: a jar, Python or R file, such as local:///opt/spark/work-dir/job.py."""

    arguments: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=256)] = ()
    """Arguments of the program."""

    spark_conf: ApplicationConf = Field(default_factory=dict)
    """Spark's own properties. What driver, executor and dynamicAllocation say cannot be said here."""

    hadoop_conf: StringMap = Field(default_factory=dict)
    """Hadoop's properties, without the prefix spark.hadoop."""

    deps: Dependencies = Field(default_factory=Dependencies)
    """Files and packages that the program needs."""

    driver: DriverSpec = Field(default_factory=DriverSpec)
    """The pod that runs the program itself."""

    executor: ExecutorSpec = Field(default_factory=ExecutorSpec)
    """The pods that do the work."""

    dynamic_allocation: DynamicAllocation = Field(default_factory=DynamicAllocation)
    """Executors come and go with the work."""

    restart_policy: RestartPolicy = Field(default_factory=RestartPolicy)
    """What happens when the program ends."""

    suspend: Bool = False
    """Does not start the program; stops it when it runs."""

    preemptible: Bool = True
    """Whether its pods may be evicted in favour of others; the application then runs again from the start or its last
    checkpoint. Otherwise it starts only within the tenant's guarantee."""

    start_timeout_seconds: Seconds = 600
    """Time from a node's being found until the driver runs (image pulls and the like), after which the attempt has
    failed. Waiting for a turn does not count."""

    max_runtime_seconds: Seconds | None = None
    """Runtime after which the application is stopped. Lets it run on nodes that are reserved for a larger one."""

    time_to_live_seconds: Seconds | None = None
    """Time after its end at which the application is deleted; absent: never."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(self.type in ['Java', 'Scala']) || has(self.mainClass)",
            "Java and Scala programs need mainClass; for a Python program write type: Python",
            lambda it: it.type not in ("Java", "Scala") or it.main_class is not None,
            field_path=".mainClass",
        ),
    )


class ApplicationState(Model):
    """Where the application stands."""

    state: Literal[
        "SUBMITTED",
        "RUNNING",
        "SUCCEEDING",
        "COMPLETED",
        "FAILING",
        "FAILED",
        "SUBMISSION_FAILED",
        "PENDING_RERUN",
        "SUSPENDED",
        "UNKNOWN",
    ]
    """State, in the words of the kubeflow spark-operator."""

    error_message: Message | None = None
    """Why it failed."""


class DriverInfo(Model):
    """The driver's pod."""

    pod_name: DnsName | None = None
    """Name of the pod."""

    web_ui_service_name: DnsName | None = Field(default=None, alias="webUIServiceName")
    """Name of the Service of its web interface."""


class SparkApplicationStatus(Model):
    """What the operator observes."""

    observed_generation: Count | None = None
    """Generation that the operator has acted on."""

    conditions: Conditions = ()
    """Standing answers: Ready (running or completed), Scheduled, Paused."""

    application_state: ApplicationState | None = None
    """Where the application stands."""

    spark_application_id: Annotated[str, Field(max_length=253)] | None = None
    """Spark's own id of the run."""

    driver_info: DriverInfo | None = None
    """The driver's pod."""

    executor_state: Annotated[dict[str, Annotated[str, Field(max_length=64)]], Field(max_length=10_000)] = Field(
        default_factory=dict
    )
    """State of the executors, by the pods' names."""

    execution_attempts: Count | None = None
    """Runs begun so far."""

    failed_attempts: Count | None = None
    """Runs that failed so far; one that was evicted has not failed."""

    submission_attempts: Count | None = None
    """Attempts to start the present run."""

    last_submission_attempt_time: Timestamp | None = None
    """When the last attempt was made."""

    termination_time: Timestamp | None = None
    """When the application ended."""


class SparkApplication(Resource):
    """One run of a Spark program: a driver and its executors, admitted together."""

    definition: ClassVar[Definition] = Definition(
        kind="SparkApplication",
        plural="sparkapplications",
        short_names=("sparkapp",),
        scope="Namespaced",
        columns=(
            Column("Status", ".status.applicationState.state", "string", "Where the application stands."),
            Column("Executors", ".spec.executor.instances", "integer", "Executors asked for."),
            Column("Attempts", ".status.executionAttempts", "integer", "Runs begun so far."),
            Column("Start", ".status.lastSubmissionAttemptTime", "date", "Time since the last attempt."),
            Column("Finish", ".status.terminationTime", "date", "Time since the end."),
            Column("Message", ".status.applicationState.errorMessage", "string", "Why it failed.", wide=True),
            AGE,
        ),
        longest_name=52,
    )

    kind: Literal["SparkApplication"] = "SparkApplication"
    """Kind of the object: SparkApplication."""

    spec: SparkApplicationSpec
    """What to run, and with what."""

    status: SparkApplicationStatus | None = None
    """What the operator observes."""

    rules: ClassVar[tuple[Rule, ...]] = (LABEL_NAME, STARTS_WITH_LETTER)


class MasterResources(Resources):
    """What the master requests, and what it may use at most."""

    requests: ResourceList = Field(default_factory=lambda: {CPU: quantity("500m"), MEMORY: quantity("1Gi")})
    """What the pod is placed by and what counts in the tenant's share. Must name cpu and memory."""


class SparkMaster(Model):
    """The pod that hands out the workers."""

    resources: MasterResources = Field(default_factory=MasterResources)
    """What it requests."""


class SparkWorkers(Model):
    """The pods that run executors."""

    replicas: Annotated[Int, Field(ge=0, le=10_000)] = 3
    """Number of workers."""

    cores: Annotated[Int, Field(ge=1, le=1024)] = 2
    """Cores that each offers, and CPUs that its pod requests."""

    memory: JavaMemory = "4g"
    """Memory that each offers to executors, in Spark's notation. The pod requests a tenth more, at least 384m."""

    gpu: GpuSpec | None = None
    """GPUs of each worker."""

    env: Annotated[tuple[EnvVar, ...], Field(max_length=128)] = ()
    """Environment variables."""


class SparkClusterSpec(ServiceSpec):
    """A standing Spark cluster. Empty means one master, three workers, authentication on."""

    spark_version: SparkVersion = DEFAULT_VERSION
    """Version of Spark."""

    preemptible: Bool = False
    """Whether its pods may be evicted in favour of others. Otherwise they start only within the tenant's guarantee."""

    master: SparkMaster = Field(default_factory=SparkMaster)
    """The pod that hands out the workers."""

    workers: SparkWorkers = Field(default_factory=SparkWorkers)
    """The pods that run executors."""

    placement: Placement = Field(default_factory=lambda: Placement(share_nodes=True))
    """Where the workers run. They hold no data, so they may share nodes."""

    spark_conf: SparkConf = Field(default_factory=dict)
    """Spark's own properties, for master and workers."""


class SparkClusterStatus(ReplicatedStatus):
    """What the operator observes."""


class SparkCluster(Resource):
    """A standing Spark cluster of a master and workers."""

    definition: ClassVar[Definition] = Definition(
        kind="SparkCluster",
        plural="sparkclusters",
        short_names=("sparkcl",),
        scope="Namespaced",
        columns=(
            ready_column(),
            Column("Phase", ".status.phase", "string", "Where the service stands."),
            Column("Workers", ".spec.workers.replicas", "integer", "Workers asked for."),
            Column("Up", ".status.readyReplicas", "integer", "Workers that serve."),
            Column("Version", ".spec.sparkVersion", "string", "Version asked for."),
            reason_column(),
            AGE,
        ),
        scale=Scale(".spec.workers.replicas", ".status.replicas", ".status.selector"),
        longest_name=40,
    )

    kind: Literal["SparkCluster"] = "SparkCluster"
    """Kind of the object: SparkCluster."""

    spec: SparkClusterSpec = Field(default_factory=SparkClusterSpec)
    """What the cluster should be."""

    status: SparkClusterStatus | None = None
    """What the operator observes."""

    rules: ClassVar[tuple[Rule, ...]] = (LABEL_NAME, STARTS_WITH_LETTER)
