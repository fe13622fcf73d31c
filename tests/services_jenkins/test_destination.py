"""Where the operator lets a pool's owner send it: the tenant's own Services and networks, and nowhere else."""

import datetime as dt
import ipaddress
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_operator.kind import ServiceUnavailableError
from allotment_operator.plans.outcome import TenantView
from allotment_operator.services.jenkins.destination import Destination, DestinationRefusedError, IpAddress, usable
from allotment_operator.services.jenkins.locator import KEPT_SECONDS, Locator

TENANT = TenantView("retail", namespaces=("ci", "pay"), egress=("10.20.0.0/16", "2001:db8::/32"))


class World:
    """A cluster with some Services and pods, and a resolver that may change its mind."""

    def __init__(self) -> None:
        self.services: dict[tuple[str, str], dict[str, Any]] = {}
        self.running: list[dict[str, Any]] = []
        self.held: dict[str, str] = {}
        self.names: dict[str, list[str]] = {}
        self.asked = 0
        self.now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)

    async def service(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        self.asked += 1
        return self.services.get((namespace, name))

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
        return [
            pod
            for pod in self.running
            if pod["metadata"]["namespace"] == namespace and labels.items() <= pod["metadata"]["labels"].items()
        ]

    async def holder(self, address: str) -> str:
        return self.held.get(address, "")

    async def resolve(self, host: str, port: int) -> list[IpAddress]:
        del port
        self.asked += 1
        if host not in self.names:
            raise ServiceUnavailableError(f"{host} cannot be resolved")
        return [ipaddress.ip_address(each) for each in self.names[host]]

    def has_service(self, namespace: str, name: str, **spec: Any) -> None:
        self.services[namespace, name] = {"spec": {"selector": {"app": "jenkins"}, **spec}}

    def has_pod(self, namespace: str, name: str, address: str, *, ready: bool = True) -> None:
        self.running.append(
            {
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": "jenkins"}},
                "status": {"podIP": address, "conditions": [{"type": "Ready", "status": str(ready)}]},
            }
        )

    def locator(self, *, allow_loopback: bool = False) -> Locator:
        return Locator(self, clock=lambda: self.now, allow_loopback=allow_loopback, resolve=self.resolve)


@pytest.fixture
def world() -> World:
    return World()


async def refusal(world: World, url: str, tenant: TenantView | None = TENANT, *, allow_loopback: bool = False) -> str:
    with pytest.raises(DestinationRefusedError) as refused:
        await world.locator(allow_loopback=allow_loopback).locate(url, tenant)
    return str(refused.value)


class TestAServiceOfTheTenant:
    @pytest.mark.parametrize("url", ["http://jenkins.ci.svc:8080/", "https://JENKINS.ci.svc.cluster.local./x"])
    async def test_is_called_at_its_own_address_without_name_resolution(self, world: World, url: str) -> None:
        world.has_service("ci", "jenkins", clusterIP="10.96.0.7", clusterIPs=["10.96.0.7", "fd00::7"])

        assert await world.locator().locate(url, TENANT) == ("10.96.0.7", "fd00::7")

    async def test_without_an_address_of_its_own_is_called_at_its_ready_pods(self, world: World) -> None:
        world.has_service("ci", "jenkins", clusterIP="None", clusterIPs=["None"])
        world.has_pod("ci", "jenkins-0", "10.244.0.5")
        world.has_pod("ci", "jenkins-1", "10.244.0.6", ready=False)
        world.has_pod("other", "jenkins-0", "10.244.0.7")

        assert await world.locator().locate("http://jenkins.ci.svc:8080/", TENANT) == ("10.244.0.5",)
        assert await world.locator().locate("http://jenkins-0.jenkins.ci.svc:8080/", TENANT) == ("10.244.0.5",)
        with pytest.raises(ServiceUnavailableError, match="no pod behind the Service ci/jenkins"):
            await world.locator().locate("http://jenkins-1.jenkins.ci.svc:8080/", TENANT)

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ({"type": "ExternalName", "externalName": "kafka.risk.svc.cluster.local"}, "may lead anywhere"),
            ({"clusterIP": "10.96.0.9", "selector": {}}, "give it a selector"),
        ],
        ids=["one that stands for another name", "one whose endpoints are written by hand"],
    )
    async def test_that_may_lead_elsewhere_is_refused(self, world: World, spec: dict[str, Any], said: str) -> None:
        world.has_service("ci", "jenkins", **spec)

        assert said in await refusal(world, "http://jenkins.ci.svc/")

    async def test_that_is_missing_is_named(self, world: World) -> None:
        assert "there is no Service ci/jenkins: create it" in await refusal(world, "http://jenkins.ci.svc/")

    async def test_of_another_tenant_is_refused_before_it_is_looked_for(self, world: World) -> None:
        world.has_service("risk", "kafka", clusterIP="10.96.0.8")

        said = await refusal(world, "http://kafka.risk.svc:9092/")

        assert "the namespace risk in spec.jenkins.url is not the tenant retail's" in said
        assert "(ci, pay)" in said
        assert world.asked == 0


class TestAnyOtherHost:
    async def test_within_the_tenants_networks_is_called(self, world: World) -> None:
        world.names["jenkins.example.com"] = ["10.20.0.5", "192.0.2.1"]

        assert await world.locator().locate("https://jenkins.example.com/", TENANT) == ("10.20.0.5",)
        assert await world.locator().locate("https://10.20.3.4/", TENANT) == ("10.20.3.4",)
        assert await world.locator().locate("https://[2001:db8::1]:8443/", TENANT) == ("2001:db8::1",)

    async def test_outside_them_is_refused_with_what_to_ask_for(self, world: World) -> None:
        world.names["jenkins.example.com"] = ["192.0.2.1"]

        said = await refusal(world, "https://jenkins.example.com/")

        assert said.startswith("jenkins.example.com leads to 192.0.2.1, which is outside the tenant's networks")
        assert "policy.network.egress" in said

    async def test_that_is_something_of_the_cluster_is_refused_even_where_everything_is_granted(
        self, world: World
    ) -> None:
        everywhere = TenantView("retail", namespaces=("ci",), egress=("0.0.0.0/0", "::/0"))
        world.names["sly.example.com"] = ["10.96.0.8"]
        world.held["10.96.0.8"] = "a Service's address"

        assert "the cluster's own (a Service's address)" in await refusal(world, "http://sly.example.com/", everywhere)

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:8080/",
            "http://localhost:8080/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[fd00:ec2::254]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://224.0.0.1/",
            "http://[64:ff9b::a9fe:a9fe]/",
        ],
    )
    async def test_that_nobody_is_granted_is_refused_even_where_everything_is(self, world: World, url: str) -> None:
        everywhere = TenantView("retail", namespaces=("ci",), egress=("0.0.0.0/0", "::/0"))
        world.names["localhost"] = ["127.0.0.1", "::1"]

        assert "the operator never calls" in await refusal(world, url, everywhere)

    @pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.0.0.1", "0x7f000001", "10.20.0.05", "1.2.3.4.5"])
    async def test_written_as_an_odd_number_is_refused(self, world: World, host: str) -> None:
        world.names[host] = ["10.20.0.5"]

        assert "no plain IP address" in await refusal(world, f"http://{host}/")

    async def test_on_the_operators_own_machine_is_called_where_the_setting_allows_it(self, world: World) -> None:
        world.names["localhost"] = ["127.0.0.1"]
        locator = world.locator(allow_loopback=True)

        assert await locator.locate("http://127.0.0.1:8080/", TENANT) == ("127.0.0.1",)
        assert await locator.locate("http://localhost:8080/", TENANT) == ("127.0.0.1",)
        assert "metadata" in await refusal(world, "http://169.254.169.254/", allow_loopback=True)


class TestAnAddress:
    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("ftp://10.20.0.5/", "http:// or https://"),
            ("http:///path", "and a host"),
            ("http://user:word@10.20.0.5/", "take it out"),
            ("http://10.20.0.5/?a=b", "take it out"),
            ("http://10.20.0.5/#x", "take it out"),
            ("http://10.20.0.5:99999/", "no usable port"),
        ],
    )
    async def test_that_says_more_than_a_place_is_refused(self, world: World, url: str, said: str) -> None:
        assert said in await refusal(world, url)

    async def test_is_called_for_nobody_where_the_namespace_is_nobodys(self, world: World) -> None:
        assert "belongs to no tenant" in await refusal(world, "http://10.20.0.5/", None)

    async def test_is_looked_up_again_after_a_while_and_at_once_for_another_grant(self, world: World) -> None:
        world.names["jenkins.example.com"] = ["10.20.0.5"]
        locator = world.locator()
        await locator.locate("https://jenkins.example.com/", TENANT)
        world.names["jenkins.example.com"] = ["10.20.0.6"]

        assert await locator.locate("https://jenkins.example.com/", TENANT) == ("10.20.0.5",)
        with pytest.raises(DestinationRefusedError):
            await locator.locate("https://jenkins.example.com/", TenantView("retail", namespaces=("ci", "pay")))
        world.now += dt.timedelta(seconds=KEPT_SECONDS)
        assert await locator.locate("https://jenkins.example.com/", TENANT) == ("10.20.0.6",)


@given(
    st.lists(st.ip_addresses(), min_size=1, max_size=4),
    st.lists(st.sampled_from(["0.0.0.0/0", "::/0", "10.0.0.0/8", "169.254.0.0/16", "127.0.0.0/8", "::1/128"])),
)
def test_nothing_is_called_that_is_not_granted_or_that_nobody_is(addresses: list[IpAddress], egress: list[str]) -> None:
    try:
        found = usable("host", addresses, egress=egress, allow_loopback=False)
    except DestinationRefusedError:
        return

    for address in found:
        assert any(address in ipaddress.ip_network(net) for net in egress)
        assert not address.is_loopback
        assert not address.is_link_local
        assert not address.is_multicast


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("https://jenkins.ci.svc", Destination("jenkins.ci.svc", 443)),
        ("http://Jenkins.CI.svc.cluster.local.:8080/x", Destination("jenkins.ci.svc.cluster.local", 8080)),
        ("http://[2001:db8::1]/", Destination("2001:db8::1", 80)),
    ],
)
def test_host_and_port_are_read(url: str, want: Destination) -> None:
    assert Destination.of(url) == want


@pytest.mark.parametrize(
    "host", ["svc", "ci.svc", "a.b.c.d.svc", "jenkins.ci.svc.example.com", "jenkins.ci", "jenkins"]
)
def test_what_is_not_written_like_a_service_is_none(host: str) -> None:
    assert Destination(host, 80).service is None
