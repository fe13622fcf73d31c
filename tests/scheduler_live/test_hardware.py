"""Claims for devices as the watch tells them, late or out of order, beside what we wrote to them ourselves."""

from typing import Any

import msgspec
import pytest

from allotment_kube import devices as kube
from allotment_kube.pods import Pod
from allotment_scheduler.core.state.cluster import ClusterState
from allotment_scheduler.shell.ledger import Ledger
from allotment_scheduler.shell.picture import Picture
from allotment_scheduler.translation.devices import Devices

CLAIM = ("t", "mine")


def claim(version: str, *devices: str, uid: str = "u") -> kube.ResourceClaim:
    """The claim at some version, holding these devices."""
    results = [{"request": "r", "driver": "gpu.example.com", "pool": "n", "device": each} for each in devices]
    return msgspec.convert(
        {
            "metadata": {"name": "mine", "namespace": "t", "uid": uid, "resourceVersion": version},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}},
            "status": {"allocation": {"devices": {"results": results}}} if devices else {},
        },
        kube.ResourceClaim,
    )


def resource_slice(name: str) -> kube.ResourceSlice:
    """One device of the node of this name."""
    pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.example.com", "nodeName": name, "pool": pool, "devices": [{"name": "d0"}]}
    return msgspec.convert({"metadata": {"name": name}, "spec": spec}, kube.ResourceSlice)


def pod(name: str, uses: str = "mine") -> Pod:
    """A pod that uses a claim."""
    claims = [{"name": "gpu", "resourceClaimName": uses}]
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "t", "uid": name, "generation": 1},
            "spec": {"schedulerName": "allotment", "resourceClaims": claims},
        },
        Pod,
    )


class Seen:
    """A picture, and how many faults of ours it met."""

    def __init__(self) -> None:
        self.faults = self.doubts = 0
        self.state = ClusterState()
        self.picture = Picture(self.state, Ledger(), lambda: None, self._doubt, self._fault)
        self.hardware = self.picture.hardware
        self.hardware.device_class(
            ("", "gpu"), msgspec.convert({"metadata": {"name": "gpu"}, "spec": {}}, kube.DeviceClass)
        )

    def _doubt(self) -> None:
        self.doubts += 1

    def _fault(self) -> None:
        self.faults += 1

    @property
    def held(self) -> list[str]:
        """Devices that are not to be given to anybody else, by the core and by whoever writes claims."""
        core = [device[2] for held in self.state.attachments.holdings.values() for device in held.devices]
        known = self.hardware.devices.claims.get(CLAIM)
        allocated = known.status.allocation if known is not None else None
        assert core == [each.device for each in (allocated.devices.results if allocated is not None else ())]
        return core


@pytest.mark.parametrize(
    ("told", "held"),
    [
        ([claim("10")], ["d0"]),
        ([claim("10"), claim("11", "d0")], ["d0"]),
        ([claim("11", "d0"), claim("12")], []),
        ([claim("10"), claim("12")], []),
        ([claim("13", uid="another")], []),
        ([None], []),
        ([claim("11", "d0"), claim("3", "d1")], ["d1"]),
    ],
    ids=[
        "the finalizer alone is late",
        "the watch catches up",
        "it is taken back",
        "it is taken back, and the watch leaves out what we wrote",
        "another claim of the name",
        "it is deleted",
        "the cluster was restored, which takes it back in time",
    ],
)
def test_what_the_watch_told_of_a_claim_before_we_wrote_it_frees_nothing(
    told: list[kube.ResourceClaim | None], held: list[str]
) -> None:
    seen = Seen()
    seen.hardware.resource_claim(CLAIM, claim("9"))
    seen.hardware.resource_claim_written(CLAIM, claim("11", "d0"))
    assert seen.held == ["d0"]

    for each in told:
        seen.hardware.resource_claim(CLAIM, each)

    assert seen.held == held


@pytest.mark.parametrize(
    "known",
    [None, claim("12"), claim("9", uid="another")],
    ids=["it is gone", "it was taken back", "another claim of the name"],
)
def test_the_answer_to_a_write_is_no_news_where_the_watch_was_faster(known: kube.ResourceClaim | None) -> None:
    seen = Seen()
    seen.hardware.resource_claim(CLAIM, known)

    seen.hardware.resource_claim_written(CLAIM, claim("11", "d0"))

    assert seen.held == []


def test_the_answer_is_taken_where_the_watch_showed_the_finalizer_meanwhile() -> None:
    seen = Seen()
    seen.hardware.resource_claim(CLAIM, claim("10"))

    seen.hardware.resource_claim_written(CLAIM, claim("11", "d0"))

    assert seen.held == ["d0"]


def test_a_pod_that_cannot_be_read_again_is_set_aside_and_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    for name in ("before", "poison", "after"):
        seen.picture.pod(("t", name), pod(name))
    needs = Devices.needs

    def faulty(devices: Devices, each: Pod) -> Any:
        if each.metadata.name == "poison":
            raise ZeroDivisionError
        return needs(devices, each)

    monkeypatch.setattr(Devices, "needs", faulty)
    seen.hardware.resource_claim(CLAIM, claim("9"))

    assert {name: known.spec.invalid for (_, name), known in seen.state.pods.items() if name != "poison"} == {
        "before": "",
        "after": "",
    }, "their claim is known now"
    assert seen.state.pods["t", "poison"].spec.gated, "it does not start by what was known of it"
    gate = seen.picture.gate(("t", "poison"))
    assert gate is not None
    assert gate.code == "Quarantined"
    assert "ZeroDivisionError" in gate.message
    assert seen.faults
    assert not seen.doubts, "nothing was told to the core by half"

    monkeypatch.undo()
    seen.hardware.resource_claim(CLAIM, claim("10"))
    assert [name for (_, name), known in seen.state.pods.items() if known.spec.gated] == []
    assert seen.picture.gate(("t", "poison")) is None


def test_news_of_a_claim_concern_its_own_pods_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    for name in ("one", "two"):
        seen.picture.pod(("t", name), pod(name))
    for number in range(20):
        seen.picture.pod(("t", f"other-{number}"), pod(f"other-{number}", "another"))
    read: list[str] = []
    needs = Devices.needs

    def counted(devices: Devices, each: Pod) -> Any:
        read.append(each.metadata.name)
        return needs(devices, each)

    monkeypatch.setattr(Devices, "needs", counted)
    seen.hardware.resource_claim(CLAIM, claim("9"))
    assert read == ["one", "two"]
    seen.picture.pod_gone(("t", "one"))
    seen.hardware.resource_claim(CLAIM, claim("10"))
    assert read == ["one", "two", "two"]


def test_the_holders_of_a_device_are_known_whatever_becomes_of_its_claims() -> None:
    devices = Devices(claims={CLAIM: claim("9", "d0")})
    one, other = ("gpu.example.com", "n", "d0"), ("gpu.example.com", "n", "d1")
    assert devices.holders(one) == (CLAIM,)
    devices.claim(("t", "second"), claim("10", "d0", "d0"))
    assert set(devices.holders(one)) == {CLAIM, ("t", "second")}, "they did not know of each other"
    devices.claim(("t", "second"), claim("11", "d1"))
    devices.claim(CLAIM, None)
    assert (devices.holders(one), devices.holders(other)) == ((), (("t", "second"),))


def test_a_slice_that_cannot_be_read_takes_no_other_away(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    for name in ("good", "poison"):
        seen.hardware.resource_slice(("", name), resource_slice(name))
    offered = Devices.offered

    def faulty(devices: Devices) -> Any:
        if "poison" in devices.slices:
            raise ZeroDivisionError
        return offered(devices)

    monkeypatch.setattr(Devices, "offered", faulty)
    seen.hardware.offer()

    assert set(seen.state.attachments.slices) == {"good"}
    assert "ZeroDivisionError" in seen.picture.problems["ResourceSlice", ("", "poison")].message

    monkeypatch.undo()
    seen.hardware.resource_slice(("", "poison"), resource_slice("poison"))
    seen.hardware.offer()
    assert set(seen.state.attachments.slices) == {"good", "poison"}
    assert not seen.picture.problems


def test_a_node_whose_devices_the_core_fails_over_takes_no_others_away(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    for name in ("poison", "good"):
        seen.hardware.resource_slice(("", name), resource_slice(name))
    apply = ClusterState.apply

    def faulty(state: ClusterState, event: Any) -> None:
        if getattr(getattr(event, "item", None), "node", "") == "poison":
            raise ZeroDivisionError
        apply(state, event)

    monkeypatch.setattr(ClusterState, "apply", faulty)
    with pytest.raises(ZeroDivisionError):
        seen.hardware.offer()
    assert seen.doubts == 1, "the state is built anew before anything is decided"
    seen.hardware.offer()

    assert set(seen.state.attachments.slices) == {"good"}
    assert seen.doubts == 1, "once is enough"


def test_where_no_slice_is_to_blame_nodes_keep_what_they_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    seen.hardware.resource_slice(("", "good"), resource_slice("good"))
    seen.hardware.offer()

    def faulty(devices: Devices) -> Any:
        if len(devices.slices) != 1:
            raise ZeroDivisionError
        return {}

    monkeypatch.setattr(Devices, "offered", faulty)
    seen.hardware.resource_slice(("", "other"), resource_slice("other"))
    seen.hardware.offer()

    assert set(seen.state.attachments.slices) == {"good"}
    assert seen.faults
    assert not seen.doubts, "nothing was told to the core by half"
