"""How simulated nodes and pods live: the stages that kwok plays instead of a kubelet.

A node with the annotation `kwok.x-k8s.io/node: fake` becomes Ready and stays so by its lease. A pod bound to it runs at
once, all containers ready. It ends as a kubelet would end it, with containers terminated, conditions False and a
terminal phase, also before a deletion (a Job with `podReplacementPolicy: Failed` waits for that phase):

- `allotment.dev/simulated-duration` (seconds, or a Go duration such as 1h30m or 500ms) ends a pod of a Job, and any pod
  whose restartPolicy is not Always, that long after its start: never sooner, at most a second later (the API keeps
  times in whole seconds). It counts from `status.startTime`, so that updates of the pod and restarts of kwok do not
  prolong it.
- `allotment.dev/simulated-exit-code`: at its end the pod fails with this code if it is not 0.
- `allotment.dev/simulated-shutdown`: how long a deleted pod takes to stop, at most its grace period; default at once.

Pods of Jobs without a duration complete within a second; all others run until they are deleted. A value that cannot be
read fails the pod with the reason InvalidSimulation and a message, rather than running some other time than was asked.
Containers never restart: `restartPolicy: OnFailure` fails as `Never` does. Expressions are jq (gojq), templates Go's.
"""

import json
from typing import Any

DURATION = "allotment.dev/simulated-duration"
EXIT_CODE = "allotment.dev/simulated-exit-code"
SHUTDOWN = "allotment.dev/simulated-shutdown"

_NUMBER = "[0-9]+([.][0-9]+)?"
_DURATION_PATTERN = f"^({_NUMBER}|({_NUMBER}(h|ms|m|s))+)$"
_EXIT_CODE_PATTERN = "^([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$"

_SECONDS = (
    f'def seconds: if test("^{_NUMBER}$") then tonumber else '
    f'[match("({_NUMBER})(h|ms|m|s)"; "g") | (.captures[0].string | tonumber) * '
    '{"h": 3600, "m": 60, "s": 1, "ms": 0.001}[.captures[2].string]] | add end; '
)


def _annotation(name: str) -> str:
    return f'.metadata.annotations["{name}"]'


_VALID = (
    f'([{_annotation(DURATION)}, {_annotation(SHUTDOWN)}] | all(. == null or test("{_DURATION_PATTERN}"))) '
    f'and ({_annotation(EXIT_CODE)} | . == null or test("{_EXIT_CODE_PATTERN}"))'
)
_ENDS = (
    '([.metadata.ownerReferences[]? | .kind] | any(. == "Job")) '
    f'or ({_annotation(DURATION)} != null and .spec.restartPolicy != "Always")'
)
_FAILS = f'({_annotation(EXIT_CODE)} // "0") != "0"'

# startTime is cut to the second: one more keeps the pod from ending early.
_END = (
    f"{_SECONDS} ({_annotation(DURATION)} | if . == null then 0 else seconds | ceil end) as $duration "
    "| (.status.startTime | fromdate) + $duration + 1 | todate"
)
_STOP = (
    f"{_SECONDS} (.metadata.deletionGracePeriodSeconds // 0) as $grace "
    f'| ({_annotation(SHUTDOWN)} // "0" | seconds | ceil) as $wanted '
    "| (.metadata.deletionTimestamp | fromdate) - $grace + ([$wanted, $grace] | min) | todate"
)

_NODE_READY = """
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ Now | Quote }}
  lastTransitionTime: {{ Now | Quote }}
{{ end }}
phase: Running
"""

_POD_RUNNING = """
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
conditions:
{{ range list "PodReadyToStartContainers" "Initialized" "ContainersReady" "Ready" }}
- {type: {{ . | Quote }}, status: "True", lastTransitionTime: {{ $now | Quote }}}
{{ end }}
{{ range .spec.readinessGates }}
- {type: {{ .conditionType | Quote }}, status: "True", lastTransitionTime: {{ $now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
{{ with .spec.initContainers }}
initContainerStatuses:
{{ range . }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: true
  restartCount: 0
{{ if eq (or .restartPolicy "") "Always" }}
  started: true
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ else }}
  started: false
  state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
{{ end }}
{{ end }}
{{ end }}
{{ with NodeIPsWith .spec.nodeName }}
hostIP: {{ index . 0 | Quote }}
hostIPs:
{{ range . }}
- ip: {{ . | Quote }}
{{ end }}
{{ end }}
{{ $hostNetwork := or .spec.hostNetwork false }}
{{ with PodIPsWith .spec.nodeName $hostNetwork .metadata.uid .metadata.name .metadata.namespace }}
podIP: {{ index . 0 | Quote }}
podIPs:
{{ range . }}
- ip: {{ . | Quote }}
{{ end }}
{{ end }}
"""


def _terminated(phase: str, *, code: str, reason: str, pod_status: str = "") -> str:
    """A status template for a pod whose containers all ended.

    Args:
        phase: Succeeded or Failed.
        code: exit code of its containers, a template expression.
        reason: of the containers' end.
        pod_status: further lines of the status.
    """
    condition_reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
    return f"""
{{{{ $now := Now }}}}
{{{{ $started := or .status.startTime $now }}}}
{{{{ $code := {code} }}}}
phase: {phase}
{pod_status}
conditions:
{{{{ range list "ContainersReady" "Ready" }}}}
- {{type: {{{{ . | Quote }}}}, status: "False", reason: {condition_reason}, lastTransitionTime: {{{{ $now | Quote }}}}}}
{{{{ end }}}}
containerStatuses:
{{{{ range .spec.containers }}}}
- name: {{{{ .name | Quote }}}}
  image: {{{{ .image | Quote }}}}
  imageID: ""
  ready: false
  started: false
  restartCount: 0
  state:
    running: null
    terminated:
      exitCode: {{{{ $code }}}}
      reason: {reason}
      startedAt: {{{{ $started | Quote }}}}
      finishedAt: {{{{ $now | Quote }}}}
{{{{ end }}}}
"""


_INVALID_STATUS = f"""reason: InvalidSimulation
message: >-
  {DURATION} and {SHUTDOWN} take seconds or a duration such as 90, 1.5s or 1h30m,
  {EXIT_CODE} takes 0 to 255.
"""


def stages() -> list[dict[str, Any]]:
    """Every stage of nodes and pods. At most one matches an object at any time."""
    alive, deleted = (
        _expression(".metadata.deletionTimestamp", "DoesNotExist"),
        _expression(".metadata.deletionTimestamp", "Exists"),
    )
    pending, running = _in(".status.phase", "Pending"), _in(".status.phase", "Running")
    ended = (".status.phase", ["Succeeded", "Failed"])
    ends = [alive, running, _in(_VALID, "true"), _in(_ENDS, "true")]
    not_ready = _not_in('.status.conditions[]? | select(.type == "Ready") | .status', "True")
    exit_code = f'(index .metadata.annotations "{EXIT_CODE}")'
    failed = _terminated("Failed", code=exit_code, reason="Error")
    stopped = _terminated("Failed", code="143", reason="Error")
    invalid = _terminated("Failed", code="128", reason="ContainerCannotRun", pod_status=_INVALID_STATUS)
    completed = _terminated("Succeeded", code="0", reason="Completed")
    return [
        _stage("Node", "node-ready", [alive, not_ready], [_status(_NODE_READY)]),
        _stage("Pod", "pod-running", [alive, pending, _in(_VALID, "true")], [_status(_POD_RUNNING)]),
        _stage("Pod", "pod-invalid", [alive, _not_in(*ended), _in(_VALID, "false")], [_status(invalid)]),
        _stage("Pod", "pod-completed", [*ends, _in(_FAILS, "false")], [_status(completed)], at=_END),
        _stage("Pod", "pod-failed", [*ends, _in(_FAILS, "true")], [_status(failed)], at=_END),
        _stage("Pod", "pod-stopped", [deleted, _not_in(*ended)], [_status(stopped), {"delete": True}], at=_STOP),
        _stage("Pod", "pod-removed", [deleted, _in(*ended)], [{"delete": True}]),
    ]


def stages_yaml() -> str:
    """The stages as kwok reads them (JSON documents are YAML)."""
    return "".join(f"---\n{json.dumps(stage, indent=1)}\n" for stage in stages())


def _stage(
    kind: str, name: str, match: list[dict[str, Any]], steps: list[dict[str, Any]], *, at: str | None = None
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": match},
        "steps": steps,
    }
    if at is not None:
        spec["delay"] = {"durationMilliseconds": 0, "durationFrom": {"jq": {"expression": at}}}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


def _status(template: str) -> dict[str, Any]:
    return {"patch": {"subresource": "status", "root": "status", "template": template}}


def _expression(key: str, operator: str, values: list[str] | None = None) -> dict[str, Any]:
    return {"jq": {"key": key, "operator": operator, **({"values": values} if values else {})}}


def _in(key: str, values: str | list[str]) -> dict[str, Any]:
    return _expression(key, "In", [values] if isinstance(values, str) else values)


def _not_in(key: str, values: str | list[str]) -> dict[str, Any]:
    return _expression(key, "NotIn", [values] if isinstance(values, str) else values)
