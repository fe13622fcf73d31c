"""What the programs in two kinds of simulated pods would do, and nobody else can: no container runs on these nodes.

- A build agent that runs connects to the (stand-in) Jenkins controller with the secret of its own Secret, and loses its
  connection with its pod.
- A Spark driver that runs makes its executors as Spark does in client mode: from the template and the properties that
  the operator wrote, owned by its pod, with the rights of its own ServiceAccount.

Everything else about these pods is real: who made them, what admitted them, where they were placed.
"""

import asyncio
import base64
import copy
import logging
from typing import Any, Final

import yaml

from allotment_api.labels import COMPONENT_LABEL, INSTANCE_LABEL, KIND_LABEL
from allotment_kube.client import Client
from allotment_kube.configuration import Configuration
from allotment_kube.errors import AlreadyExistsError, ApiError
from allotment_kube.reflector import Deleted, Event, Reflector, Synced
from allotment_kube.resources import CONFIG_MAPS, PODS, SECRETS
from allotment_simulations.jenkins_controller import StandInJenkins

Object = dict[str, Any]
_PROPERTIES: Final = "spark.properties"
_TEMPLATE: Final = "executor.yaml"
_TRIES: Final = 20

_logger = logging.getLogger(__name__)


class PodPrograms:
    """Plays the programs in build agents and Spark drivers.

    Args:
        client: with the rights of a kubelet: it mounts Secrets and tokens into pods.
        configuration: where the API server is, for the drivers' own accounts.
        jenkins: the controller that agents connect to.
    """

    def __init__(self, client: Client, configuration: Configuration, jenkins: StandInJenkins) -> None:
        self._client = client
        self._configuration = configuration
        self._jenkins = jenkins
        self._started: set[str] = set()
        self._work: asyncio.Queue[Object] = asyncio.Queue()

    async def run(self) -> None:
        """Work until cancelled."""
        watched = Reflector(
            self._client, PODS.untyped, self._note, label_selector=f"{COMPONENT_LABEL} in (agent,driver)"
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(watched.run())
            while True:
                pod = await self._work.get()
                group.create_task(self._start(pod))

    def _note(self, event: Event[Object]) -> None:
        if isinstance(event, Synced):
            return
        pod = event.last if isinstance(event, Deleted) else event.new
        if pod is None:
            return
        metadata, phase = pod["metadata"], (pod.get("status") or {}).get("phase")
        ended = isinstance(event, Deleted) or "deletionTimestamp" in metadata or phase in ("Succeeded", "Failed")
        if ended and metadata["labels"][COMPONENT_LABEL] == "agent":
            self._jenkins.disconnect(metadata["name"])
        elif phase == "Running" and not ended and metadata["uid"] not in self._started:
            self._started.add(metadata["uid"])
            self._work.put_nowait(pod)

    async def _start(self, pod: Object) -> None:
        play = self._connect if pod["metadata"]["labels"][COMPONENT_LABEL] == "agent" else self._make_executors
        for attempt in range(_TRIES):
            try:
                return await play(pod)
            except (ApiError, PermissionError) as error:
                _logger.warning("%s, try %s: %s", pod["metadata"]["name"], attempt + 1, error)
                await asyncio.sleep(0.5)
        return None

    async def _connect(self, pod: Object) -> None:
        metadata = pod["metadata"]
        [container] = pod["spec"]["containers"]
        source = next(
            each["valueFrom"]["secretKeyRef"] for each in container["env"] if each["name"] == "JENKINS_SECRET"
        )
        secret = await self._client.get(SECRETS, source["name"], namespace=metadata["namespace"])
        self._jenkins.connect(metadata["name"], base64.b64decode(secret["data"][source["key"]]).decode())

    async def _make_executors(self, driver: Object) -> None:
        if driver["metadata"]["labels"].get(KIND_LABEL) != "SparkApplication":
            return
        namespace = driver["metadata"]["namespace"]
        source = next(
            each["configMap"]["name"] for each in driver["spec"]["volumes"] if each["name"] == "configuration"
        )
        configuration = await self._client.get(CONFIG_MAPS, source, namespace=namespace)
        account = f"system:serviceaccount:{namespace}:{driver['spec']['serviceAccountName']}"
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        async with Client.connect(self._configuration.acting_as(account, *groups), user_agent="spark") as own:
            for pod in executors(driver, configuration["data"]):
                try:
                    await own.create(PODS, pod)
                except AlreadyExistsError:
                    continue


def executors(driver: Object, configuration: dict[str, str]) -> list[Object]:
    """The executors that a driver makes of its properties and the template, as Spark 4 names and labels them.

    Source: Spark, ``BasicExecutorFeatureStep`` and ``ExecutorPodsAllocator``.
    """
    properties = dict(line.split("=", 1) for line in configuration[_PROPERTIES].splitlines() if "=" in line)
    template = yaml.safe_load(configuration[_TEMPLATE])
    metadata = driver["metadata"]
    mebibytes = sum(
        int(properties[f"spark.executor.{each}"].removesuffix("m")) for each in ("memory", "memoryOverhead")
    )
    cores = properties["spark.kubernetes.executor.request.cores"]
    made = []
    for number in range(1, int(properties.get("spark.executor.instances", "0")) + 1):
        pod = copy.deepcopy(template)
        pod["metadata"] |= {
            "name": f"{properties['spark.kubernetes.executor.podNamePrefix']}-exec-{number}",
            "namespace": metadata["namespace"],
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                }
            ],
        }
        pod["metadata"]["labels"] |= {
            "spark-exec-id": str(number),
            "spark-app-name": metadata["labels"][INSTANCE_LABEL],
        }
        container = next(each for each in pod["spec"]["containers"] if each["name"] == "executor")
        container["image"] = properties["spark.kubernetes.container.image"]
        requests = container.setdefault("resources", {}).setdefault("requests", {})
        requests |= {"cpu": cores, "memory": f"{mebibytes}Mi"}
        container["resources"].setdefault("limits", {})["memory"] = f"{mebibytes}Mi"
        pod["spec"]["restartPolicy"] = "Never"
        made.append(pod)
    return made
