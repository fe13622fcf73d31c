"""A broker that is none: a tenant chooses the image, and the operator's threads are few."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from allotment_kube import certificates
from allotment_operator.kind import ServiceUnavailableError
from allotment_operator.services.kafka import kafka_python
from allotment_operator.services.kafka.admin import Login
from allotment_operator.services.kafka.kafka_python import THREADS, THREADS_OF_A_CLUSTER, KafkaPythonAdmin
from allotment_operator.services.kafka.login import log_in

Answer = Callable[[ssl.SSLSocket, threading.Event], None]


@pytest.fixture(scope="module")
def authority() -> certificates.KeyPair:
    return certificates.authority("authority", now=dt.datetime.now(dt.UTC))


@pytest.fixture
def broker(authority: certificates.KeyPair, tmp_path: Path) -> Iterator[Callable[[Answer], Login]]:
    """Starts what passes for a broker, with a genuine certificate, and returns how to log in there."""
    leaf = certificates.issue(authority, "localhost", now=dt.datetime.now(dt.UTC), hosts=["localhost"])
    pem = tmp_path / "broker.pem"
    pem.write_bytes(leaf.key_pem + leaf.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    over = threading.Event()
    with contextlib.ExitStack() as stack:

        def start(answer: Answer) -> Login:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve() -> None:
                with contextlib.suppress(OSError):
                    plain, _ = listener.accept()
                    with context.wrap_socket(plain, server_side=True) as connection:
                        connection.recv(1 << 16)
                        answer(connection, over)

            thread = threading.Thread(target=serve)
            thread.start()
            stack.callback(thread.join, 60)
            stack.callback(over.set)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            port = listener.getsockname()[1]
            return Login(f"localhost:{port}", authority.certificate_pem.decode(), username="ann", password="x")

        yield start


def trickling(connection: ssl.SSLSocket, over: threading.Event) -> None:
    """Announce a long answer, and send it byte by byte."""
    connection.sendall(struct.pack(">i", 1000))
    while not over.wait(0.1):
        connection.sendall(b"x")


@pytest.mark.parametrize("certificate", ["", "shown"], ids=["by password", "by certificate"])
def test_a_login_ends_in_time_however_slowly_it_is_answered(
    certificate: str, broker: Callable[[Answer], Login], authority: certificates.KeyPair
) -> None:
    login = broker(trickling)
    if certificate:
        leaf = certificates.issue(authority, "operator", now=dt.datetime.now(dt.UTC), client=True)
        login = Login(login.bootstrap, login.authority, (leaf.key_pem + leaf.certificate_pem).decode())
    began = time.monotonic()

    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        log_in(login, timeout=1)

    assert time.monotonic() - began < 60  # the whole answer takes 100 s


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(struct.pack(">i", 4) + bytes(4), id="too short"),
        pytest.param(struct.pack(">i", -1), id="less than nothing"),
        pytest.param(struct.pack(">i", 1 << 30), id="more than is believed"),
        pytest.param(struct.pack(">i", 6) + bytes(6) + struct.pack(">i", 14) + bytes(14), id="no words of SCRAM"),
    ],
)
def test_what_is_no_answer_of_kafkas_is_none(answer: bytes, broker: Callable[[Answer], Login]) -> None:
    def say(connection: ssl.SSLSocket, over: threading.Event) -> None:
        connection.sendall(answer)
        over.wait(60)

    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        log_in(broker(say), timeout=10)


@pytest.mark.parametrize("heard", [0, 1, 5])
def test_a_connection_that_breaks_off_in_the_handshake_is_silence(heard: int, authority: certificates.KeyPair) -> None:
    """As a broker's that is ending while it is still asked; taken for a no, it would count at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(heard or 1 << 16)
                connection.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=hang_up)
        thread.start()
        login = Login(f"localhost:{listener.getsockname()[1]}", authority.certificate_pem.decode(), username="ann")
        try:
            with pytest.raises(ServiceUnavailableError, match="does not answer"):
                log_in(login, timeout=60)
        finally:
            thread.join(60)


@pytest.mark.parametrize("quorum", [{}, {"topics": []}, {"topics": None}, {"topics": [{"partitions": [{}]}]}], ids=str)
async def test_an_answer_that_lacks_what_was_asked_for_is_none(
    quorum: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would pass for a fault of the operator, with its traceback in the log in every round."""

    class Another:
        """The library's client of a broker that keeps to the protocol's form and to nothing else."""

        def __init__(self, **_: object) -> None:
            self.closed = False

        def describe_cluster(self) -> dict[str, object]:
            return {"brokers": []}

        def describe_metadata_quorum(self) -> dict[str, object]:
            return quorum

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(kafka_python, "_Client", Another)
    monkeypatch.setattr(kafka_python, "client_context", lambda _: None)
    monkeypatch.setattr(kafka_python, "log_in", lambda *_, **__: None)
    refused = pytest.raises(ServiceUnavailableError, match="does not answer as Kafka")
    with contextlib.closing(KafkaPythonAdmin(timeout=60)) as admin, refused:
        await admin.cluster(Login("localhost:9091", ""))


async def test_a_cluster_that_holds_its_threads_leaves_the_others_theirs() -> None:
    admin, go_on, held = KafkaPythonAdmin(timeout=0.1), threading.Event(), []

    def hold() -> None:
        held.append(threading.get_ident())
        go_on.wait(60)

    try:
        calls = [admin._in_thread(Login(f"slow:{9000 + port}", ""), hold) for port in range(2 * THREADS)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        admin._timeout = 60.0  # the machine may be busy
        found = await admin._in_thread(Login("quick:9091", ""), lambda: "served")
    finally:
        go_on.set()
        admin.close()

    assert {type(answer) for answer in answers} == {ServiceUnavailableError}
    assert "does not answer within 0.3 s" in str(answers[0])
    assert found == "served"
    assert len(held) <= THREADS_OF_A_CLUSTER
