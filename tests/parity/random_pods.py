"""Random pods: those that run, which the others must mind, and those that wait, which are judged."""

import random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from parity.cases import Chance

Object = dict[str, Any]
SPACES: Final = ("red", "red", "blue", "grey")
APPS: Final = ("web", "db", "cache")
KEYS: Final = ("kubernetes.io/hostname", "topology.kubernetes.io/zone", "rack")
_IMAGE: Final = "registry.bank/app:1"
_RESIZES: Final = ("50m", "300m", "900m")


def bound_pod(chance: "Chance", number: int) -> Object:
    """A pod that runs; some are being deleted, have finished, or stand on a node that is gone."""
    rng = chance.rng
    pod = _pod(chance, f"run-{number:02}", running=True)
    pod["spec"]["nodeName"] = rng.choice(chance.names) if chance.odds(0.96) else "gone"
    if chance.odds(0.08):
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    elif chance.odds(0.06):
        pod["status"] = {"phase": rng.choice(("Succeeded", "Failed"))}
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]:
            container.pop("ports", None)  # kube-scheduler forgets a port when one of two that hold it has gone
    elif chance.of("resources", 0.3):
        pod["status"] = _resized(rng, pod)
    return pod


def waiting_pod(chance: "Chance", number: int) -> Object:
    """A pod that waits."""
    pod = _pod(chance, f"wait-{number:02}", running=False)
    if chance.odds(0.04):
        pod["spec"]["schedulingGates"] = [{"name": "example.com/hold"}]
    return pod


def _pod(chance: "Chance", name: str, *, running: bool) -> Object:
    rng = chance.rng
    namespace = rng.choice(SPACES)
    labels = {"app": rng.choice(APPS)}
    if chance.odds(0.5):
        labels["version"] = rng.choice(("1", "2"))
    spec: Object = {"schedulerName": "allotment", "terminationGracePeriodSeconds": 3600}
    _sizes(chance, spec, running=running)
    if chance.of("ports", 0.15):
        spec["hostNetwork"] = True
    affinity = _neighbours(chance, running=running)
    if not running or chance.odds(0.3):
        _where(chance, spec, affinity)
    if affinity:
        spec["affinity"] = affinity
    if chance.of("spread", 0.2 if running else 0.8):
        spec["topologySpreadConstraints"] = _spread(chance)
    if chance.of("volumes", 0.6 if running else 0.8):
        spec["volumes"] = chance.storage.volumes(rng, namespace)
    if chance.claims.names and chance.of("devices", 0.3 if running else 0.9):
        spec["resourceClaims"] = chance.claims.of_pod(rng, namespace)
    return {"kind": "Pod", "metadata": {"namespace": namespace, "name": name, "labels": labels}, "spec": spec}


def _sizes(chance: "Chance", spec: Object, *, running: bool) -> None:
    """Containers, and what else makes a pod large."""
    spec["containers"] = [_container(chance, "main", 0, running=running)]
    if chance.of("resources", 0.3):
        spec["containers"].append(_container(chance, "more", 1, running=running))
    if chance.of("resources", 0.4):
        spec["initContainers"] = [
            {
                **_container(chance, f"init-{each}", 2 + each, running=running),
                **({"restartPolicy": "Always"} if chance.odds(0.5) else {}),
            }
            for each in range(chance.rng.randint(1, 3))
        ]
    if chance.of("resources", 0.2):
        spec["runtimeClassName"] = "heavy"
        spec["overhead"] = {"cpu": "250m", "memory": "64Mi"}
    if chance.of("resources", 0.2):
        _size_as_a_whole(chance.rng, spec)


def _container(chance: "Chance", name: str, position: int, *, running: bool) -> Object:
    rng = chance.rng
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    scale = ("50m", "100m", "200m") if running else ("100m", "500m", "1", "2", "3")
    if chance.of("resources", 0.8) or chance.odds(0.4):
        requests["cpu"] = rng.choice(scale)
        requests["memory"] = rng.choice(("100Mi", "0.5Gi", "1G", "2000M", "123456789"))
    if chance.of("resources", 0.15):
        requests["cpu"] = rng.choice(("100500u", "0.0015", "1e-1"))
    if chance.of("resources", 0.2):
        requests["ephemeral-storage"] = rng.choice(("1Gi", "5Gi"))
    if chance.of("resources", 0.15):
        requests["example.com/gpu"] = limits["example.com/gpu"] = rng.choice(("0", "1", "2"))
    if chance.of("resources", 0.1):
        requests["cpu"] = requests.get("cpu", "100m")
        requests["hugepages-2Mi"] = limits["hugepages-2Mi"] = rng.choice(("32Mi", "64Mi"))
    if chance.of("resources", 0.15) and "cpu" not in requests:
        limits["cpu"] = rng.choice(("250m", "1500m"))
    container: Object = {"name": name, "image": _IMAGE, "resources": {}}
    if requests:
        container["resources"]["requests"] = requests
    if limits:
        container["resources"]["limits"] = limits
    if chance.of("ports", 0.5 if running else 0.7):
        container["ports"] = [_port(rng, 8080 + position)]
    return container


def _port(rng: random.Random, number: int) -> Object:
    port: Object = {"containerPort": number, "protocol": rng.choice(("TCP", "TCP", "UDP"))}
    if rng.random() < 0.9:  # on the host's network the container's port is the host's, said or not
        port["hostPort"] = number
    address = rng.choice(("", "", "0.0.0.0", "10.0.0.1", "10.0.0.2", "::1"))
    if address:
        port["hostIP"] = address
    return port


def _size_as_a_whole(rng: random.Random, spec: Object) -> None:
    """Resources of the pod itself, which must cover the containers': so those are small, or say nothing."""
    small = {"requests": {"cpu": "100m", "memory": "64Mi"}} if rng.random() < 0.6 else {}
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        container["resources"] = dict(small)
    size = {"cpu": rng.choice(("8", "2", "1")), "memory": rng.choice(("12Gi", "3Gi"))}
    kind = rng.choice(("requests", "requests", "limits", "both"))
    if kind == "both":
        spec["resources"] = {"requests": {"cpu": "1"}, "limits": size}
    else:
        spec["resources"] = {kind: size}


def _resized(rng: random.Random, pod: Object) -> Object:
    """The status of a pod that is being resized: what it has, and what it was promised."""
    status: Object = {"phase": "Running"}
    for field, containers in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        found = [_container_status(rng, each["name"]) for each in pod["spec"].get(containers, ()) if rng.random() < 0.8]
        if found:
            status[field] = found
    if rng.random() < 0.3:
        reason = rng.choice(("Infeasible", "Deferred"))
        status["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": reason, "message": "wait"}]
    if "resources" in pod["spec"] and rng.random() < 0.6:
        status["resources"] = {"requests": {"cpu": rng.choice(_RESIZES), "memory": "1Gi"}}
        status["allocatedResources"] = {"cpu": rng.choice(_RESIZES), "memory": "2Gi"}
    return status


def _container_status(rng: random.Random, name: str) -> Object:
    status: Object = {"name": name, "image": _IMAGE, "imageID": "", "ready": True, "restartCount": 0}
    if rng.random() < 0.9:
        status["resources"] = {"requests": {"cpu": rng.choice(_RESIZES), "memory": "200Mi"}}
    if rng.random() < 0.7:
        status["allocatedResources"] = {"cpu": rng.choice(_RESIZES), "memory": rng.choice(("100Mi", "300Mi"))}
    return status


def _where(chance: "Chance", spec: Object, affinity: Object) -> None:
    """Constraints on the node itself."""
    rng = chance.rng
    if chance.of("nodes", 0.2):
        spec["nodeSelector"] = {rng.choice(("disk", "rack")): rng.choice(("ssd", "hdd", "r1", "r2"))}
    if chance.of("nodes", 0.6):
        spec["tolerations"] = [_toleration(rng) for _ in range(rng.randint(1, 2))]
    if chance.of("nodes", 0.5):
        terms = [_node_term(chance) for _ in range(rng.choice((1, 1, 2)))]
        affinity["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _toleration(rng: random.Random) -> Object:
    found: Object = {}
    key = rng.choice(("dedicated", "flaky", "node.kubernetes.io/unschedulable", ""))
    if key:
        found["key"] = key
    if not key or rng.random() < 0.5:
        found["operator"] = "Exists"
    else:
        if rng.random() < 0.5:
            found["operator"] = "Equal"
        value = rng.choice(("", "x", "y"))
        if value:
            found["value"] = value
    effect = rng.choice(("", "", "NoSchedule", "NoExecute", "PreferNoSchedule"))
    if effect:
        found["effect"] = effect
    if effect == "NoExecute" and rng.random() < 0.5:
        found["tolerationSeconds"] = 30
    return found


def _node_term(chance: "Chance") -> Object:
    rng, term = chance.rng, {}
    if chance.odds(0.9):
        term["matchExpressions"] = [_node_expression(rng) for _ in range(rng.choice((1, 1, 2)))]
    if chance.odds(0.2):
        values = [rng.choice([*chance.names, "nowhere"])]
        term["matchFields"] = [{"key": "metadata.name", "operator": rng.choice(("In", "NotIn")), "values": values}]
    return term


def _node_expression(rng: random.Random) -> Object:
    operator = rng.choice(("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
    if operator in ("Gt", "Lt"):
        return {"key": "size", "operator": operator, "values": [rng.choice(("4", "9", "05", "many"))]}
    key, values = rng.choice(
        (("disk", ("ssd", "hdd", "tape")), ("rack", ("r1", "r2")), ("topology.kubernetes.io/zone", ("za", "zb")))
    )
    if operator in ("Exists", "DoesNotExist"):
        return {"key": key, "operator": operator}
    return {"key": key, "operator": operator, "values": rng.sample(values, rng.randint(1, 2))}


def _neighbours(chance: "Chance", *, running: bool) -> Object:
    found: Object = {}
    for name, likely in (("podAffinity", 0.4), ("podAntiAffinity", 0.5)):
        if chance.of("affinity", likely):
            terms = [_pod_term(chance, running=running) for _ in range(chance.rng.choice((1, 1, 2)))]
            found[name] = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    return found


def _pod_term(chance: "Chance", *, running: bool) -> Object:
    rng = chance.rng
    selectors: list[Object] = [{}, {"matchLabels": {"team": "a"}}]
    if running:  # of newcomers kube-scheduler misreads these: see docs/parity.md
        selectors.append({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]})
    term: Object = {"topologyKey": rng.choice(KEYS)}
    if chance.odds(0.95):
        term["labelSelector"] = _label_selector(rng)
    if chance.odds(0.25):
        term["namespaces"] = rng.sample(("red", "blue", "grey"), rng.randint(1, 2))
    if chance.odds(0.3):
        term["namespaceSelector"] = rng.choice(selectors)
    if "labelSelector" in term and chance.odds(0.2):
        term["matchLabelKeys"] = ["version"]
    elif "labelSelector" in term and chance.odds(0.2):
        term["mismatchLabelKeys"] = ["version"]
    return term


def _label_selector(rng: random.Random) -> Object:
    kind = rng.randrange(5)
    if kind == 0:
        return {"matchExpressions": [{"key": "app", "operator": "In", "values": rng.sample(APPS, 2)}]}
    if kind == 1:
        return {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [rng.choice(APPS)]}]}
    if kind == 2:
        operator = rng.choice(("Exists", "DoesNotExist"))
        return {"matchLabels": {"app": rng.choice(APPS)}, "matchExpressions": [{"key": "tier", "operator": operator}]}
    return {"matchLabels": {"app": rng.choice(APPS)}} if rng.random() < 0.95 else {}


def _spread(chance: "Chance") -> list[Object]:
    rng = chance.rng
    found: dict[tuple[str, str], Object] = {}
    for _ in range(rng.choice((1, 1, 2))):
        rule: Object = {
            "topologyKey": rng.choice(KEYS),
            "maxSkew": rng.choice((1, 1, 1, 2, 3)),
            "whenUnsatisfiable": rng.choice(("DoNotSchedule", "DoNotSchedule", "DoNotSchedule", "ScheduleAnyway")),
        }
        if chance.odds(0.95):
            rule["labelSelector"] = _label_selector(rng)
            if chance.odds(0.25):
                rule["matchLabelKeys"] = ["version"]
        if rule["whenUnsatisfiable"] == "DoNotSchedule" and chance.odds(0.3):
            rule["minDomains"] = rng.randint(1, 5)
        if chance.odds(0.4):
            rule["nodeAffinityPolicy"] = rng.choice(("Honor", "Ignore"))
        if chance.odds(0.4):
            rule["nodeTaintsPolicy"] = rng.choice(("Honor", "Ignore"))
        found[rule["topologyKey"], rule["whenUnsatisfiable"]] = rule
    return list(found.values())
