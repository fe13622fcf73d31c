"""Spark's properties: what the owner says, what the operator derives, and how both are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_api.spark import SparkApplication
from allotment_operator.services.spark.properties import as_file, properties
from allotment_operator.services.spark.sizing import first_executors, memory_mebibytes, pod_requests


def application(**spec: object) -> SparkApplication:
    body = {"type": "Python", "mainApplicationFile": "local:///job.py", **spec}
    return SparkApplication.parse(
        {
            "apiVersion": "allotment.dev/v1alpha1",
            "kind": "SparkApplication",
            "metadata": {"name": "pi", "namespace": "research", "uid": "7"},
            "spec": body,
        }
    )


@pytest.mark.parametrize(
    ("memory", "overhead", "jvm", "wanted"),
    [
        ("2g", None, True, 2048 + 384),
        ("8g", None, True, 8192 + 819),
        ("2g", None, False, 2048 + 819),
        ("512m", None, False, 512 + 384),
        ("4g", "1g", True, 5120),
    ],
    ids=["least overhead", "a tenth", "two fifths for Python", "least overhead for Python", "as given"],
)
def test_a_pod_requests_its_heap_and_an_overhead(memory: str, overhead: str | None, jvm: bool, wanted: int) -> None:
    assert memory_mebibytes(memory, overhead, jvm=jvm) == wanted


def test_the_room_held_for_executors_is_what_spark_will_ask_for() -> None:
    pi = application(executor={"instances": 4, "cores": 2, "memory": "4g", "gpu": {"quantity": 1}})
    given = properties(pi, namespace="research")

    requests = pod_requests(pi.spec.executor, jvm=False)

    heap, overhead = (int(given[f"spark.executor.{key}"].rstrip("m")) for key in ("memory", "memoryOverhead"))
    assert requests == {
        "cpu": given["spark.kubernetes.executor.request.cores"],
        "memory": f"{heap + overhead}Mi",
        "nvidia.com/gpu": "1",
    }
    assert first_executors(pi.spec) == int(given["spark.executor.instances"]) == 4


def test_a_pod_may_request_less_cpu_than_it_runs_tasks_and_may_be_limited() -> None:
    pi = application(executor={"cores": 4, "coreRequest": "1500m", "coreLimit": 4})
    given = properties(pi, namespace="research")

    assert pod_requests(pi.spec.executor, jvm=False)["cpu"] == "1500m"
    assert given["spark.executor.cores"] == "4"
    assert given["spark.kubernetes.executor.request.cores"] == "1500m"
    assert given["spark.kubernetes.executor.limit.cores"] == "4"


def test_dynamic_allocation_admits_its_minimum_with_the_driver() -> None:
    pi = application(dynamicAllocation={"enabled": True, "minExecutors": 2, "maxExecutors": 20})
    given = properties(pi, namespace="research")

    assert first_executors(pi.spec) == 2
    assert given["spark.dynamicAllocation.initialExecutors"] == "2"
    assert "spark.executor.instances" not in given


def test_connections_are_authenticated_and_encrypted_whatever_the_owner_writes() -> None:
    pi = application(sparkConf={"spark.network.crypto.enabled": "false", "spark.io.encryption.enabled": "false"})
    given = properties(pi, namespace="research")

    assert {given[f"spark.{key}"] for key in ("authenticate", "network.crypto.enabled", "io.encryption.enabled")} == {
        "true"
    }


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("plain", "a=plain\n"), (" padded", "a=\\ padded\n"), ("C:\\dir", "a=C:\\\\dir\n"), ("é", "a=\\u00e9\n")],
)
def test_a_property_is_written_as_java_reads_it(value: str, wanted: str) -> None:
    assert as_file({"a": value}) == wanted


@given(values=st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12), max_size=5))
def test_whatever_is_written_java_reads_back(values: dict[str, str]) -> None:
    assert read_properties(as_file(values)) == values


def read_properties(text: str) -> dict[str, str]:
    """Read the format as java.util.Properties.load does, without its line continuations, which are never written."""
    return dict(split(line) for line in text.split("\n") if line)


def split(line: str) -> tuple[str, str]:
    at = 0
    while line[at] not in "=:":
        at += 2 if line[at] == "\\" else 1
    return unescape(line[:at]), unescape(line[at + 1 :])


def unescape(text: str) -> str:
    out, at = b"", 0
    while at < len(text):
        char = text[at]
        if char != "\\":
            out, at = out + char.encode("utf-16-be"), at + 1
        elif text[at + 1] == "u":
            out, at = out + bytes.fromhex(text[at + 2 : at + 6]), at + 6
        else:
            meant = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}.get(text[at + 1], text[at + 1])
            out, at = out + meant.encode("utf-16-be"), at + 2
    return out.decode("utf-16-be", "surrogatepass")


def test_executors_find_their_driver_by_the_name_of_its_service() -> None:
    """The driver binds to every address; told that one, an executor would knock at its own door."""
    told = properties(application(), namespace="research")

    assert told["spark.driver.host"] == "pi-driver.research.svc"
    assert told["spark.kubernetes.executor.useDriverPodIP"] == "false"
