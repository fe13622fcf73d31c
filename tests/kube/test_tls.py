"""Certificates on a real TLS socket: checked, presented, rotated."""

import _ssl
import asyncio
import base64
import gc
import ipaddress
import json
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from allotment_kube import Client, errors
from allotment_kube.certificates import authority, issue
from allotment_kube.configuration import Configuration
from allotment_kube.credentials import ExecCredentials, ExecPlugin
from allotment_kube.models import Object
from allotment_kube.resources import NODES
from allotment_kube.retries import NEVER_REPEAT
from allotment_kube.tls import PemSource, TlsSettings
from allotment_kube.transport import Request
from fakes.http_server import listening


@dataclass(frozen=True)
class Pair:
    """A self-signed certificate with its key."""

    certificate: Path
    key: Path


def self_signed(folder: Path, name: str, *, host: str = "127.0.0.1") -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    address: x509.GeneralName = x509.DNSName(host)
    if host[0].isdigit():
        address = x509.IPAddress(ipaddress.ip_address(host))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pair.key.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return pair


def sent_certificates(connection: Any) -> list[bytes]:
    """The whole chain that a client has sent; in the public interface since Python 3.13."""
    if sys.version_info >= (3, 13):
        return [*connection.get_unverified_chain()]
    return [each.public_bytes(_ssl.ENCODING_DER) for each in connection._sslobj.get_unverified_chain()]


@asynccontextmanager
async def tls_server(pair: Pair, clients: Pair | None = None, *, sent: list[bytes] | None = None) -> AsyncIterator[str]:
    """Answers with a node named after the client's certificate; `sent` is given all certificates that come (DER)."""

    async def handler(request: web.Request) -> web.Response:
        if sent is not None:
            sent.extend(sent_certificates(request.get_extra_info("ssl_object")))
        presented = request.get_extra_info("peercert") or {}
        name = "".join(value for field in presented.get("subject", ()) for _, value in field) or "anonymous"
        return web.json_response({"metadata": {"name": name}})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.certificate)
    application = web.Application()
    application.router.add_get("/{path:.*}", handler)
    async with listening(application, context) as url:
        yield url


async def who_am_i(configuration: Configuration) -> str:
    async with Client.connect(configuration, retries=NEVER_REPEAT) as client:
        return (await client.get(NODES, "n")).metadata.name


async def test_a_rotated_authority_is_read_after_a_failure(tmp_path: Path) -> None:
    server, other = self_signed(tmp_path, "server"), self_signed(tmp_path, "other")
    bundle = tmp_path / "ca.crt"
    bundle.write_bytes(other.certificate.read_bytes())
    async with tls_server(server) as url:
        settings = TlsSettings(authority=PemSource(path=bundle))
        async with Client.connect(Configuration(url, tls=settings), retries=NEVER_REPEAT) as client:
            with pytest.raises(errors.UnreachableError, match="TLS"):
                await client.get(NODES, "n")
            bundle.write_bytes(server.certificate.read_bytes())
            with pytest.raises(errors.UnreachableError, match="TLS"):
                await client.get(NODES, "n")  # this failure makes it look

            assert (await client.get(NODES, "n")).metadata.name == "anonymous"


async def test_a_client_certificate_is_presented(tmp_path: Path) -> None:
    server, jane = self_signed(tmp_path, "server"), self_signed(tmp_path, "jane")
    settings = TlsSettings(
        authority=PemSource(data=server.certificate.read_bytes()),
        certificate=PemSource(path=jane.certificate),
        key=PemSource(data=jane.key.read_bytes()),
    )
    async with tls_server(server, clients=jane) as url:
        assert await who_am_i(Configuration(url, tls=settings)) == "jane"


async def test_the_authority_is_not_sent_along_with_a_client_certificate(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    trusted = authority("authority", now=now)
    server, jane = issue(trusted, "server", hosts=["127.0.0.1"], now=now), issue(trusted, "jane", client=True, now=now)
    serving = Pair(tmp_path / "server.crt", tmp_path / "server.key")
    serving.certificate.write_bytes(server.certificate_pem)
    serving.key.write_bytes(server.key_pem)
    root = Pair(tmp_path / "root.crt", tmp_path / "root.key")
    root.certificate.write_bytes(trusted.certificate_pem)
    settings = TlsSettings(
        authority=PemSource(path=root.certificate),
        certificate=PemSource(data=jane.certificate_pem),
        key=PemSource(data=jane.key_pem),
    )
    sent: list[bytes] = []
    async with tls_server(serving, clients=root, sent=sent) as url:
        assert await who_am_i(Configuration(url, tls=settings)) == "jane"

    assert set(sent) == {jane.certificate.public_bytes(serialization.Encoding.DER)}


async def test_a_plugins_certificate_is_presented(tmp_path: Path) -> None:
    server, robot = self_signed(tmp_path, "server"), self_signed(tmp_path, "robot")
    status = {
        "clientCertificateData": robot.certificate.read_text(),
        "clientKeyData": robot.key.read_text(),
    }
    credential: Object = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    answer = base64.b64encode(json.dumps(credential).encode()).decode()
    plugin = ExecPlugin("sh", "client.authentication.k8s.io/v1", args=("-c", f"echo {answer} | base64 -d"))
    settings = TlsSettings(authority=PemSource(path=server.certificate))
    async with tls_server(server, clients=robot) as url:
        assert await who_am_i(Configuration(url, credentials=ExecCredentials(plugin), tls=settings)) == "robot"


@pytest.mark.parametrize(("name", "accepted"), [("", False), ("kubernetes", True)])
async def test_the_servers_name_is_checked_under_the_configured_name(tmp_path: Path, name: str, accepted: bool) -> None:
    server = self_signed(tmp_path, "server", host="kubernetes")
    settings = TlsSettings(authority=PemSource(path=server.certificate), server_name=name)
    async with tls_server(server) as url:
        if accepted:
            assert await who_am_i(Configuration(url, tls=settings)) == "anonymous"
        else:
            with pytest.raises(errors.UnreachableError, match="TLS"):
                await who_am_i(Configuration(url, tls=settings))


async def test_checks_are_off_only_by_request_and_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with tls_server(self_signed(tmp_path, "server")) as url:
        with pytest.raises(errors.UnreachableError, match="TLS"):
            await who_am_i(Configuration(url))
        assert "not checked" not in caplog.text
        assert await who_am_i(Configuration(url, tls=TlsSettings(insecure=True))) == "anonymous"

    assert "not checked" in caplog.text


@contextmanager
def speechless_server(pair: Pair, answered: bytes) -> Iterator[tuple[str, threading.Event]]:
    """Says so much of an answer, and then neither goes on nor takes note of any farewell; tells when it was asked."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    asked, over = threading.Event(), threading.Event()

    def answer(door: socket.socket) -> None:
        with door.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as secure:
            secure.recv(4096)
            secure.sendall(answered)
            asked.set()
            over.wait()

    with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor(1) as thread:
        door.settimeout(300)
        answering = thread.submit(answer, door)
        try:
            yield f"https://127.0.0.1:{door.getsockname()[1]}", asked
        finally:
            over.set()
        answering.result()


BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"


@pytest.mark.parametrize("answered", [BEGUN, b""], ids=["read a little", "given up before it is answered"])
def test_a_closed_stream_leaves_no_connection_to_its_loop(
    answered: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, left = self_signed(tmp_path, "server"), list[str]()
    settings = TlsSettings(authority=PemSource(path=pair.certificate))

    async def read(client: Client) -> None:
        async with client.transport.stream(Request("GET", "/api/v1/nodes")) as stream:
            assert await stream.read() == b"{}"

    async def story(url: str, asked: threading.Event) -> None:
        async with Client.connect(Configuration(url, tls=settings), retries=NEVER_REPEAT) as client:
            reading = asyncio.create_task(read(client))
            await asyncio.to_thread(asked.wait)
            if not answered:
                reading.cancel()
            await asyncio.wait({reading})
            assert reading.cancelled() or reading.exception() is None

    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: left.append(str(unraisable.exc_value)))
    with speechless_server(pair, answered) as (url, asked):
        asyncio.run(story(url, asked))
        gc.collect()

    assert left == []


def test_unusable_certificates_are_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="cannot read"):
        Client.connect(Configuration("https://x", tls=TlsSettings(authority=PemSource(path=tmp_path / "missing"))))


async def test_a_key_that_does_not_fit_is_a_configuration_error(tmp_path: Path) -> None:
    one, two = self_signed(tmp_path, "one"), self_signed(tmp_path, "two")
    settings = TlsSettings(certificate=PemSource(path=one.certificate), key=PemSource(path=two.key))
    with pytest.raises(errors.ConfigurationError, match="certificates cannot be used"):
        await who_am_i(Configuration("https://127.0.0.1:1", tls=settings))
