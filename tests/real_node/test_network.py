"""Address slots keep clusters with real nodes apart, from each other and from the machine's own networks."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allotment_local.errors import LocalClusterError
from allotment_local.real_node.network import MAX_NODES, SLOTS, Slot, free_slot


def ranges(slot: Slot) -> list[IPv4Network]:
    return [slot.node_range, slot.pod_range, slot.service_range]


def test_no_two_slots_share_an_address() -> None:
    everything = [network for number in SLOTS for network in ranges(Slot(number))]

    overlapping = [(a, b) for a in everything for b in everything if a is not b and a.overlaps(b)]
    assert overlapping == []


@given(st.sampled_from(SLOTS), st.integers(1, MAX_NODES))
def test_a_node_and_its_pods_lie_in_their_slots_ranges(number: int, index: int) -> None:
    slot = Slot(number)

    assert IPv4Network(slot.node(index)).subnet_of(slot.node_range)
    assert slot.pods_of(index).subnet_of(slot.pod_range)
    assert slot.node(index) != slot.host
    assert len(slot.link_of(index)) < 16, "the kernel's limit for names of links"


@pytest.mark.parametrize(
    ("taken", "want"),
    [
        pytest.param([], 0, id="an idle machine gives the first"),
        pytest.param(["10.80.0.0/24"], 1, id="another cluster's bridge"),
        pytest.param(["10.81.3.0/24"], 1, id="a network among the pods' addresses"),
        pytest.param(["10.96.0.0/12"], None, id="a wide route over all Services"),
        pytest.param(["192.168.0.0/16", "172.17.0.0/16"], 0, id="home and container networks"),
        pytest.param(["10.80.0.0/24", "10.98.0.1/32"], 1, id="a gap is taken"),
    ],
)
def test_a_slot_is_free_if_nothing_of_the_machine_meets_it(taken: list[str], want: int | None) -> None:
    networks = [IPv4Network(network) for network in taken]

    if want is None:
        with pytest.raises(LocalClusterError, match="None of the address ranges"):
            free_slot(networks)
    else:
        assert free_slot(networks) == Slot(want)


@given(st.lists(st.sampled_from([network for number in SLOTS for network in ranges(Slot(number))])))
def test_a_free_slot_meets_nothing_that_is_taken(taken: list[IPv4Network]) -> None:
    try:
        slot = free_slot(taken)
    except LocalClusterError:
        assert all(any(mine in taken for mine in ranges(Slot(number))) for number in SLOTS)
    else:
        assert not any(mine.overlaps(other) for mine in ranges(slot) for other in taken)
