"""Services, DNS and traffic between nodes."""

import functools
import urllib.request
from collections.abc import Iterator

import pytest

from builders.real_cluster import RealCluster
from builders.real_pods import IDLE, SERVE, pod, service

pytestmark = pytest.mark.real_node

_FETCH = """
import ssl, sys, time, urllib.request
from pathlib import Path
account = Path("/var/run/secrets/kubernetes.io/serviceaccount")
trusted = ssl.create_default_context(cafile=str(account / "ca.crt"))
url, end = sys.argv[1], time.monotonic() + 240
while True:
    try:
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {(account / 'token').read_text()}"})
        print(urllib.request.urlopen(asked, context=trusted, timeout=30).status)
        break
    except OSError as error:
        if time.monotonic() > end:
            sys.exit(f"{url}: {error}")
        time.sleep(0.2)
"""
"""Tries until it is served: the DNS and each node's kube-proxy hear by watches which pods of a Service are ready."""


@pytest.fixture(scope="module")
def web(real_cluster: RealCluster) -> Iterator[str]:
    """A namespace with a web server on one node and a client on the other."""
    namespace = "services"
    real_cluster.make_namespace(namespace)
    real_cluster.apply(
        pod(namespace, "web", *SERVE, nodeSelector={"kubernetes.io/hostname": "real-1"}),
        pod(namespace, "client", *IDLE, nodeSelector={"kubernetes.io/hostname": "real-2"}),
        service(namespace, "web", type="NodePort"),
        service(namespace, "web-headless", app="web", clusterIP="None"),
    )
    real_cluster.wait("-n", namespace, "pod", "--all", "--for=condition=Ready")
    yield namespace
    real_cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def test_a_pod_reaches_a_service_on_another_node_by_its_name(real_cluster: RealCluster, web: str) -> None:
    for host in ("web", f"web.{web}.svc.cluster.local", "web-headless"):
        answer = real_cluster.execute(web, "client", "python3", "-c", _FETCH, f"http://{host}:8080/")
        assert answer == "200\n", host


def test_a_pod_reaches_itself_through_its_own_service(real_cluster: RealCluster, web: str) -> None:
    assert real_cluster.execute(web, "web", "python3", "-c", _FETCH, "http://web:8080/") == "200\n"


def test_a_pod_reaches_the_api_server_with_its_service_account(real_cluster: RealCluster, web: str) -> None:
    asked = "https://kubernetes.default.svc/version"
    assert real_cluster.execute(web, "client", "python3", "-c", _FETCH, asked) == "200\n"


def test_the_machine_reaches_pods_services_and_node_ports(real_cluster: RealCluster, web: str) -> None:
    served = real_cluster.get("-n", web, "service", "web")["spec"]
    port = served["ports"][0]["nodePort"]
    hosts = [f"{real_cluster.get('-n', web, 'pod', 'web')['status']['podIP']}:8080", f"{served['clusterIP']}:8080"]
    hosts += [f"{node.description.address}:{port}" for node in real_cluster.fleet.nodes]

    for host in hosts:
        real_cluster.comes_to("200", functools.partial(_served, f"http://{host}/"))


def _served(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return str(response.status)
    except OSError as error:  # each node's kube-proxy hears of the Service's pods when it does
        return f"{url}: {error}"


def test_names_outside_the_cluster_do_not_resolve(real_cluster: RealCluster, web: str) -> None:
    resolve = "import socket\ntry: socket.getaddrinfo('example.com', 80)\nexcept OSError as error: print('refused')"

    assert real_cluster.execute(web, "client", "python3", "-c", resolve) == "refused\n"
