"""Whether a broker lets somebody in: one connection, as a client makes it, and nothing but the login.

It speaks the few messages itself. The client libraries repeat a refused login until their time is up, and the one in
use here drops the broker's refusal when it comes with the end of the connection; but "no" and "nobody there" are two
answers, and a user's readiness rests on telling them apart.

Source: Kafka's protocol guide (SaslHandshake 1, SaslAuthenticate 1, ApiVersions 0), RFC 5802 through the library's
SCRAM client.
"""

import socket
import ssl
import struct
from typing import Final

from kafka.net.sasl import get_sasl_mechanism

from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.services.kafka.admin import Login
from allotment_operator.services.kafka.tls_context import client_context

_SASL_HANDSHAKE: Final = (17, 1)
_API_VERSIONS: Final = (18, 0)
_SASL_AUTHENTICATE: Final = (36, 1)
_LONGEST_ANSWER: Final = 1 << 20
_MECHANISM: Final = "SCRAM-SHA-512"


def log_in(login: Login, *, timeout: float) -> None:
    """Connect to one of the login's brokers and log in.

    Raises:
        ServiceUnavailableError: no broker answers.
        ServiceRefusedError: one says no, or is not who it should be.
    """
    failure: ServiceUnavailableError | None = None
    for address in login.bootstrap.split(","):
        host, _, port = address.rpartition(":")
        try:
            _log_in_at(login, host, int(port), timeout)
        except ssl.SSLError as error:
            raise ServiceRefusedError(f"Kafka at {address} refused the login: {error.reason or error}") from error
        except OSError as error:
            failure = ServiceUnavailableError(f"Kafka at {address} does not answer: {error}")
            failure.__cause__ = error
        else:
            return
    raise failure or ServiceUnavailableError("no address of Kafka is known")


def _log_in_at(login: Login, host: str, port: int, timeout: float) -> None:
    context = client_context(login)
    with (
        socket.create_connection((host, port), timeout) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        if login.certificate:
            # A certificate is refused only after the handshake, as the first answer that does not come.
            _ask(connection, _API_VERSIONS, b"")
        else:
            _by_password(connection, login)


def _by_password(connection: ssl.SSLSocket, login: Login) -> None:
    mechanism = _MECHANISM.encode()
    answer = _ask(connection, _SASL_HANDSHAKE, struct.pack(">h", len(mechanism)) + mechanism)
    if struct.unpack_from(">h", answer)[0]:
        raise ServiceRefusedError(f"Kafka at {login.bootstrap} takes no logins by {_MECHANISM}")
    scram = get_sasl_mechanism(_MECHANISM)(
        sasl_mechanism=_MECHANISM, sasl_plain_username=login.username, sasl_plain_password=login.password
    )
    while not scram.is_done():
        token = scram.auth_bytes()
        answer = _ask(connection, _SASL_AUTHENTICATE, struct.pack(">i", len(token)) + token)
        error, length = struct.unpack_from(">hh", answer)
        text = answer[4 : 4 + max(length, 0)].decode(errors="replace")
        if error:
            raise ServiceRefusedError(f"Kafka at {login.bootstrap} refused the login of {login.username}: {text}")
        (size,) = struct.unpack_from(">i", answer, 4 + max(length, 0))
        start = 8 + max(length, 0)
        scram.receive(answer[start : start + size])
    if not scram.is_authenticated():
        raise ServiceRefusedError(f"Kafka at {login.bootstrap} could not prove that it knows {login.username}")


def _ask(connection: ssl.SSLSocket, message: tuple[int, int], body: bytes) -> bytes:
    """Send one request and return the body of its answer."""
    client = b"allotment-operator"
    header = struct.pack(">hhih", *message, 1, len(client)) + client
    connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
    (size,) = struct.unpack(">i", _read(connection, 4))
    if not 4 <= size <= _LONGEST_ANSWER:
        raise ConnectionError(f"an answer of {size} bytes is none of Kafka's")
    return _read(connection, size)[4:]


def _read(connection: ssl.SSLSocket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("the connection was closed before the answer")
        data += part
    return bytes(data)
