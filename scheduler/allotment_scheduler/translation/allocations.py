"""Allocations: what is written to a ResourceClaim once it is decided which devices it gets.

As kube-scheduler's `dynamicresources` plugin writes it (1.36): a result per device in the order of requests, with the
request's tolerations; the configuration of every class that was used, then the claim's own for the requests that were
met; and a node selector that confines the claim to its node.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from allotment_kube import devices as kube
from allotment_kube.models import Object
from allotment_scheduler.core.filters.allocation import allocate
from allotment_scheduler.core.objects.devices import ClaimKey, DeviceId, Grant
from allotment_scheduler.translation.devices import Devices

Chosen = Mapping[str, tuple[Grant, ...]]
"""Devices by the pod's name for the claim."""


def devices_for(
    devices: Devices, claims: Mapping[ClaimKey, str], node: str, taken: Collection[DeviceId], chosen: Chosen
) -> dict[ClaimKey, tuple[Grant, ...]] | None:
    """Devices of a node for some claims of one pod: those that were chosen, or others where those are not to be had.

    Args:
        devices: what there is.
        claims: with the pod's name for each.
        node: where the pod will run.
        taken: devices that other claims hold.
        chosen: what the core has decided.

    Returns:
        None if too few devices are left.

    Raises:
        DeviceError: a claim asks for something that is not supported.
    """
    here = devices.inventories().get(node)
    if here is None:
        return None
    known = {device.id for device in here.devices}
    if all(_is_there(chosen.get(entry), known, taken) for entry in claims.values()):
        return {key: chosen[entry] for key, entry in claims.items()}
    wanted = [devices.demand(key[1], devices.claims[key].spec, entry) for key, entry in claims.items()]
    found = allocate(here, wanted, taken)
    return None if found is None else dict(zip(claims, found, strict=True))


def _is_there(grants: Sequence[Grant] | None, known: Collection[DeviceId], taken: Collection[DeviceId]) -> bool:
    return bool(grants) and all(
        grant.device in known and (grant.monitors or grant.device not in taken) for grant in grants or ()
    )


def allocation(
    classes: Mapping[str, kube.DeviceClass], claim: kube.ResourceClaim, grants: Sequence[Grant], node: str
) -> Object:
    """A claim's `status.allocation`."""
    met = list(dict.fromkeys(grant.wish for grant in grants))
    asked = {name: exact for name, exact in kube.requests_by_name(claim.spec) if name in met}
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    found: Object = {"results": [_result(grant, asked[grant.wish]) for grant in grants]}
    config = [*_of_classes(classes, asked), *_of_claim(claim, met)]
    if config:
        found["config"] = config
    return {"devices": found, "nodeSelector": {"nodeSelectorTerms": [term]}}


def _result(grant: Grant, asked: kube.ExactRequest) -> Object:
    driver, pool, device = grant.device
    out: Object = {"request": grant.wish, "driver": driver, "pool": pool, "device": device}
    if grant.monitors:
        out["adminAccess"] = True
    if asked.tolerations:
        out["tolerations"] = [
            {
                name: value
                for name, value in (
                    ("key", each.key), ("operator", each.operator or "Equal"), ("value", each.value),
                    ("effect", each.effect), ("tolerationSeconds", each.toleration_seconds),
                ) if value not in ("", None)
            }
            for each in asked.tolerations
        ]  # fmt: skip
    return out


def _of_classes(classes: Mapping[str, kube.DeviceClass], asked: Mapping[str, kube.ExactRequest]) -> Iterable[Object]:
    """Each class's configuration once, with the requests that were met by its devices."""
    by_class: dict[str, list[str]] = {}
    for name, exact in asked.items():
        by_class.setdefault(exact.device_class_name, []).append(name)
    for class_name, names in by_class.items():
        for each in classes[class_name].spec.config if class_name in classes else ():
            yield {"source": "FromClass", "requests": names, **each}


def _of_claim(claim: kube.ResourceClaim, met: Sequence[str]) -> Iterable[Object]:
    """The claim's configuration, as far as it is about requests that were met, by name or by alternative."""
    names = {*met, *(name.partition("/")[0] for name in met)}
    for each in claim.spec.devices.config:
        if not each.get("requests") or names & set(each["requests"]):
            yield {"source": "FromClaim", **each}
