"""What an application's objects are called, and the ports its pods speak on."""

from dataclasses import dataclass
from typing import Final

DRIVER_PORT: Final = 7078
BLOCK_MANAGER_PORT: Final = 7079
UI_PORT: Final = 4040
MASTER_PORT: Final = 7077
MASTER_UI_PORT: Final = 8080
WORKER_PORT: Final = 7078
WORKER_UI_PORT: Final = 8081

SPARK_HOME: Final = "/opt/spark"
CONFIGURATION_FOLDER: Final = "/etc/allotment-spark"
WORK_FOLDER: Final = "/opt/spark/work-dir"
USER: Final = 185
"""The user of the official image."""

ROLE_LABEL: Final = "spark-role"
ATTEMPT_LABEL: Final = "allotment.dev/attempt"
DRIVER_CLUSTER_ROLE: Final = "allotment-spark-driver"


def image(version: str) -> str:
    """Return the official image of a version, with Python and R."""
    return f"docker.io/apache/spark:{version}"


@dataclass(frozen=True, slots=True)
class Names:
    """Names of one application's objects."""

    application: str

    def driver(self, attempt: int) -> str:
        """The driver's pod of one attempt, counted from 1."""
        return f"{self.application}-driver-{attempt}"

    @property
    def service(self) -> str:
        """The headless Service by which executors find the driver."""
        return f"{self.application}-driver"

    @property
    def group(self) -> str:
        """The PodGroup of driver and executors."""
        return f"{self.application}-spark"

    @property
    def configuration(self) -> str:
        """The ConfigMap of properties and the executors' template."""
        return f"{self.application}-spark"

    @property
    def account(self) -> str:
        """The ServiceAccount that the driver makes executors with."""
        return f"{self.application}-spark"

    @property
    def policy(self) -> str:
        """The NetworkPolicy of all its pods."""
        return f"{self.application}-spark"
