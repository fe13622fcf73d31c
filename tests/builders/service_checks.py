"""What must hold of every service's objects, whatever the service.

Each check takes a world that has been deployed, and fails with the object that breaks the rule.
"""

import base64
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from allotment_operator.plans.actions import Apply, Delete, Invoke, ObjectRef
from builders.services import World, all_actions


def assert_settled(world: World) -> None:
    """Planning again changes nothing: what is applied is there already, and nothing is deleted or asked for."""
    before = copy.deepcopy(world.objects)
    outcome = world.plan()
    assert not [action for action in all_actions(outcome) if isinstance(action, Delete | Invoke)]
    world.carry_out(all_actions(outcome))
    for ref, each in world.objects.items():
        assert each == before.get(ref), f"{ref} would change again"


def assert_deterministic(world: World) -> None:
    """The same observation gives the same plan."""
    assert world.plan() == world.plan()


def assert_selectors_match_pods(world: World) -> None:
    """Every selector finds pods, and only this instance's."""
    pods = {name: pod["metadata"]["labels"] for name, pod in world.of_kind("Pod").items()}
    selectors = {
        **{f"Service {name}": each["spec"]["selector"] for name, each in world.of_kind("Service").items()},
        **{
            f"{kind} {name}": each["spec"][field]["matchLabels"]
            for kind, field in (
                ("NetworkPolicy", "podSelector"),
                ("PodDisruptionBudget", "selector"),
                ("StatefulSet", "selector"),
            )
            for name, each in world.of_kind(kind).items()
        },
    }
    for name, selector in selectors.items():
        wanted = {key: value for key, value in selector.items() if key != "statefulset.kubernetes.io/pod-name"}
        assert any(wanted.items() <= labels.items() for labels in pods.values()), f"{name} selects no pod"
        assert wanted["allotment.dev/instance"] == world.manifest["metadata"]["name"], f"{name} selects others' pods"


def assert_ports_are_walled(world: World) -> None:
    """Every port of a pod is reached through a declared opening only, and every opening leads to a port."""
    rules = [rule for each in world.of_kind("NetworkPolicy").values() for rule in each["spec"]["ingress"]]
    opened = {port["port"] for rule in rules for port in rule["ports"]}
    ports = {
        port["containerPort"]
        for pod in world.of_kind("Pod").values()
        for container in pod["spec"]["containers"]
        for port in container["ports"]
    }
    assert opened == ports
    served = {port["targetPort"] for each in world.of_kind("Service").values() for port in each["spec"]["ports"]}
    assert served <= ports


def assert_pods_are_restricted(world: World) -> None:
    """Pods run as nobody in particular, write nowhere but to volumes, and hold no token of the API server."""
    for name, pod in world.of_kind("Pod").items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["schedulerName"] == "allotment", name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert container["resources"]["limits"]["memory"], name
            assert {"readinessProbe", "livenessProbe", "startupProbe"} <= container.keys(), name


def assert_no_secret_outside_secrets(world: World) -> None:
    """No password or key is in any object but a Secret, nor in the status."""
    secrets = [
        value
        for each in world.of_kind("Secret").values()
        for key, value in each["data"].items()
        if key in ("password", "tls.key", "ca.key", "tls.pem")
    ]
    texts = [base64.b64decode(value).decode() for value in secrets]
    for ref, each in world.objects.items():
        if ref.kind != "Secret":
            document = json.dumps(each)
            assert not any(text in document for text in texts if text), ref
    assert not any(text in json.dumps(world.manifest.get("status", {})) for text in texts if text)


def assert_goes_completely(world: World, *, retained: bool) -> None:
    """Taking it down ends, and leaves the volumes where they are to be retained, and nothing else."""
    for _ in range(6):
        if world.release() is None:
            break
    left = {ref.kind for ref in world.objects}
    assert left == ({"PersistentVolumeClaim"} if retained else set())


ALL_CHECKS: tuple[Callable[[World], None], ...] = (
    assert_settled,
    assert_deterministic,
    assert_selectors_match_pods,
    assert_ports_are_walled,
    assert_pods_are_restricted,
    assert_no_secret_outside_secrets,
)


def everything(make: Callable[[], World], *, rounds: int = 6) -> str:
    """All that a spec leads to: the objects when deployed, the status, and what a deletion leaves behind."""
    world = make()
    world.deploy(rounds=rounds)
    shown = {str(ref): _without_chance(ref, each) for ref, each in sorted(world.objects.items())}
    status = {key: value for key, value in world.manifest["status"].items() if key != "conditions"}
    for _ in range(6):
        if world.release() is None:
            break
    return json.dumps([shown, status, sorted(map(str, world.objects))], sort_keys=True)


def leaf_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every field of a spec that holds no further fields, as a path; ``[]`` stands for an entry of a list."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner, is_list = _model_of(field.annotation)
        if inner is None:
            yield path
        else:
            yield from leaf_paths(inner, f"{path}{'[]' if is_list else ''}.")


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin = get_origin(annotation)
    for argument in get_args(annotation):
        if argument in (None, type(None), ...):
            continue
        found, is_list = _model_of(argument)
        if found is not None and origin is not dict:
            return found, is_list or (origin not in (Union, None) and origin in (tuple, list))
    return None, False


def _without_chance(ref: ObjectRef, manifest: Mapping[str, Any]) -> Any:
    """An object without what differs from run to run: keys, certificates and what follows from them."""
    out = copy.deepcopy(dict(manifest))
    out["metadata"] = {key: value for key, value in out["metadata"].items() if key not in ("uid", "generation")}
    if ref.kind == "Secret":
        chance = ("tls.crt", "tls.key", "tls.pem", "ca.crt", "ca.key", "password", "certificates")
        out["data"] = {key: value for key, value in out["data"].items() if key not in chance}
        out["metadata"].pop("annotations", None)
    text = json.dumps(out)
    return json.loads(text) if ref.kind not in ("Pod", "StatefulSet") else _without_content(json.loads(text))


def _without_content(manifest: dict[str, Any]) -> dict[str, Any]:
    """The fingerprints of the certificate differ from run to run, and the owner's uid with it."""
    for part in (manifest["metadata"], manifest["spec"].get("template", {}).get("metadata", {})):
        for name in ("content", "same-content"):
            part.get("annotations", {}).pop(f"allotment.dev/{name}", None)
        part.get("labels", {}).pop("controller-revision-hash", None)
        part.pop("ownerReferences", None)
    manifest.pop("status", None)
    return manifest


def applied(actions: tuple[Any, ...]) -> dict[str, Mapping[str, Any]]:
    """The manifests that a plan applies, by kind and name."""
    return {f"{each.ref.kind} {each.ref.name}": each.manifest for each in actions if isinstance(each, Apply)}
