"""What the locator asks of a real API server: Services by name, and whose an address is."""

import datetime as dt
import json
import uuid
from typing import Any

import pytest

from allotment_kube.client import Client
from allotment_operator.plans.outcome import TenantView
from allotment_operator.services.jenkins.destination import DestinationRefusedError
from allotment_operator.services.jenkins.kinds import ClusterOf
from allotment_operator.services.jenkins.locator import Locator


async def test_a_tenants_service_is_found_and_the_address_of_any_service_is_known_for_one(cluster: Any) -> None:
    namespace = f"jenkins-{uuid.uuid4().hex[:6]}"
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
    try:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "jenkins", "namespace": namespace},
            "spec": {"selector": {"app": "jenkins"}, "ports": [{"port": 8080}]},
        }
        cluster.apply(json.dumps(service))
        found = json.loads(cluster.kubectl("-n", namespace, "get", "service", "jenkins", "-o", "json").stdout)
        address = found["spec"]["clusterIP"]
        async with Client.connect(cluster.kubeconfig) as client:
            objects = ClusterOf(client)
            locator = Locator(objects, clock=lambda: dt.datetime.now(dt.UTC))

            own = TenantView("ci", namespaces=(namespace,))
            assert await locator.locate(f"http://jenkins.{namespace}.svc:8080/", own) == (address,)
            assert await objects.holder(address) == "a Service's address"
            assert await objects.holder("192.0.2.1") == ""
            stranger = TenantView("risk", namespaces=("risk",), egress=("0.0.0.0/0",))
            with pytest.raises(DestinationRefusedError, match="the cluster's own"):
                await locator.locate(f"http://{address}:8080/", stranger)
            with pytest.raises(DestinationRefusedError, match="is not the tenant risk's"):
                await locator.locate(f"http://jenkins.{namespace}.svc:8080/", stranger)
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
