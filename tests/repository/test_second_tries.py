"""A second try hides nothing: only what came too late, or a control plane at fault, brings one."""

import subprocess

import pytest
import urllib3
from hypothesis.errors import FlakyFailure

from allotment_kube import errors
from allotment_local.errors import ClusterTimeoutError
from builders.patience import LateError, infrastructure_failed, late_or_infrastructure


def failed(message: str) -> BaseException:
    with pytest.raises(pytest.fail.Exception) as caught:
        pytest.fail(message)
    return caught.value


MACHINERY = [
    ClusterTimeoutError("the API server does not answer"),
    ConnectionRefusedError("refused"),
    urllib3.exceptions.ProtocolError("cut"),
    errors.UnreachableError("no connection"),
    failed("kubectl get pods: Unable to connect to the server: net/http: TLS handshake timeout"),
    ExceptionGroup("all of them", [ConnectionResetError(), ClusterTimeoutError("late")]),
]
LATE = [
    LateError("not after 120 s"),
    TimeoutError(),
    subprocess.TimeoutExpired("kubectl", 60),
    failed("kubectl wait: error: timed out waiting for the condition on pods/a"),
]
WRONG = [
    AssertionError("('a', 'p') overfills n: 4001 of 4000 milli-CPU"),
    FlakyFailure("a property", [AssertionError("once")]),
    ValueError("a bug"),
    FileNotFoundError("a file"),
    errors.InvalidError("refused"),
    failed("kubectl apply: the Tenant is invalid"),
    failed("Timeout (>400.0s) from pytest-timeout."),
    ExceptionGroup("one of them is wrong", [ConnectionResetError(), AssertionError("violation")]),
]


@pytest.mark.parametrize(
    ("error", "machinery", "late"),
    [
        *((error, True, True) for error in MACHINERY),
        *((error, False, True) for error in LATE),
        *((error, False, False) for error in WRONG),
    ],
    ids=repr,
)
def test_only_lateness_and_a_control_plane_at_fault_bring_a_second_try(
    error: BaseException, machinery: bool, late: bool
) -> None:
    assert infrastructure_failed(error) is machinery
    assert late_or_infrastructure(error) is late


def test_what_was_seen_counts_though_it_was_seen_after_something_came_late() -> None:
    with pytest.raises(AssertionError) as caught:
        raise AssertionError(["violation"]) from LateError("not placed")
    assert not late_or_infrastructure(caught.value)


def test_a_pure_test_gets_no_second_try(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("flaky") is None
