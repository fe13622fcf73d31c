"""The few requests to the API server: what they make of an answer that does not come, or is "not now"."""

import datetime as dt
from pathlib import Path

import pytest

from allotment_kube.certificates import authority, issue
from allotment_local.api import ApiError, Connection, UnansweredError
from allotment_local.kubeconfig import client_kubeconfig
from allotment_local.ports import free_ports


@pytest.fixture
def nobody(tmp_path: Path) -> Connection:
    """A connection to a port where nothing listens."""
    now = dt.datetime.now(tz=dt.UTC)
    ca = authority("test-ca", now=now)
    port = free_ports("127.0.0.1").api
    path = tmp_path / "kubeconfig"
    user = issue(ca, "somebody", client=True, now=now)
    path.write_bytes(
        client_kubeconfig("test", server=f"https://127.0.0.1:{port}", authority=ca.certificate_pem, client=user)
    )
    return Connection(path)


def answered(status: int) -> bool:
    raise ApiError("GET /: told", status=status)


def test_a_server_that_does_not_answer_is_told_with_what_was_asked(nobody: Connection) -> None:
    with pytest.raises(UnansweredError, match=r"GET /api: the API server gave no answer .*refused"):
        nobody.get("/api")


def test_what_cannot_be_asked_now_does_not_hold_yet(nobody: Connection) -> None:
    assert not nobody.holds(lambda connection: bool(connection.get("/api")))
    assert not nobody.holds(lambda _: answered(429))
    assert not nobody.holds(lambda _: answered(500))
    assert nobody.holds(lambda _: True)


def test_a_refusal_is_no_reason_to_wait(nobody: Connection) -> None:
    with pytest.raises(ApiError):
        nobody.holds(lambda _: answered(403))
