"""Whether a broker lets somebody in: one connection, as a client makes it, and nothing but the login.

It speaks the few messages itself. The client libraries repeat a refused login until their time is up, and the one in
use here drops the broker's refusal when it comes with the end of the connection; but "no" and "nobody there" are two
answers, and a user's readiness rests on telling them apart.

A broker runs an image of its tenant's choice: no answer is believed, and one deadline holds for all of it, or a broker
that trickles bytes would keep its thread for as long as it likes.

Source: Kafka's protocol guide (SaslHandshake 1, SaslAuthenticate 1, ApiVersions 0), RFC 5802 through the library's
SCRAM client.
"""

import socket
import ssl
import struct
import time
from dataclasses import dataclass
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
    """Connect to a broker and log in.

    Args:
        login: where, and as whom.
        timeout: seconds, whatever the broker does.

    Raises:
        ServiceUnavailableError: no broker answers.
        ServiceRefusedError: it says no, or is not who it should be.
    """
    host, _, port = login.bootstrap.rpartition(":")
    try:
        _log_in_at(login, host, int(port), timeout)
    except ssl.SSLEOFError as error:  # who hangs up in the handshake has not said no: a broker does so as it ends
        raise ServiceUnavailableError(f"Kafka at {login.bootstrap} does not answer: it hung up") from error
    except ssl.SSLError as error:
        raise ServiceRefusedError(f"Kafka at {login.bootstrap} refused the login: {error.reason or error}") from error
    # Words of another protocol: too short, of another form, numbers that are none.
    except (OSError, struct.error, ValueError, LookupError) as error:
        raise ServiceUnavailableError(f"Kafka at {login.bootstrap} does not answer: {error}") from error


@dataclass(frozen=True, slots=True)
class _Conversation:
    """A connection, and when all that is said on it must be over."""

    socket: ssl.SSLSocket
    deadline: float

    def ask(self, message: tuple[int, int], body: bytes) -> bytes:
        """Send one request and return the body of its answer."""
        client = b"allotment-operator"
        header = struct.pack(">hhih", *message, 1, len(client)) + client
        self.socket.settimeout(_left(self.deadline))
        self.socket.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        (size,) = struct.unpack(">i", self._read(4))
        if not 4 <= size <= _LONGEST_ANSWER:
            raise ConnectionError(f"an answer of {size} bytes is none of Kafka's")
        return self._read(size)[4:]

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            self.socket.settimeout(_left(self.deadline))
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the connection was closed before the answer")
            data += part
        return bytes(data)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the login was not answered in time")
    return left


def _log_in_at(login: Login, host: str, port: int, timeout: float) -> None:
    context = client_context(login)
    deadline = time.monotonic() + timeout
    with socket.create_connection((host, port), timeout) as plain:
        plain.settimeout(_left(deadline))
        with context.wrap_socket(plain, server_hostname=host) as connection:
            broker = _Conversation(connection, deadline)
            if login.certificate:
                # A certificate is refused only after the handshake, as the first answer that does not come.
                broker.ask(_API_VERSIONS, b"")
            else:
                _by_password(broker, login)


def _by_password(broker: _Conversation, login: Login) -> None:
    mechanism = _MECHANISM.encode()
    answer = broker.ask(_SASL_HANDSHAKE, struct.pack(">h", len(mechanism)) + mechanism)
    if struct.unpack_from(">h", answer)[0]:
        raise ServiceRefusedError(f"Kafka at {login.bootstrap} takes no logins by {_MECHANISM}")
    scram = get_sasl_mechanism(_MECHANISM)(
        sasl_mechanism=_MECHANISM, sasl_plain_username=login.username, sasl_plain_password=login.password
    )
    while not scram.is_done():
        token = scram.auth_bytes()
        answer = broker.ask(_SASL_AUTHENTICATE, struct.pack(">i", len(token)) + token)
        error, length = struct.unpack_from(">hh", answer)
        text = answer[4 : 4 + max(length, 0)].decode(errors="replace")[:500]
        if error:
            raise ServiceRefusedError(f"Kafka at {login.bootstrap} refused the login of {login.username}: {text}")
        (size,) = struct.unpack_from(">i", answer, 4 + max(length, 0))
        start = 8 + max(length, 0)
        scram.receive(answer[start : start + size])
    if not scram.is_authenticated():
        raise ServiceRefusedError(f"Kafka at {login.bootstrap} could not prove that it knows {login.username}")
