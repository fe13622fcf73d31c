"""What the client costs: decoding watch events, and POSTing bindings over TLS.

    python tests/benchmarks/bench_kube_client.py [--against-generated]

Prints figures, asserts nothing. The server is a separate process that answers every POST with a canned 201, so that
the CPU time measured here is the client's alone. `--against-generated` adds the `kubernetes` package.
"""
# ruff: noqa: T201 - a program whose output is its purpose

import argparse
import asyncio
import ipaddress
import json
import multiprocessing
import random
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from allotment_kube import Client
from allotment_kube.configuration import Configuration
from allotment_kube.credentials import FixedCredentials, bearer
from allotment_kube.decoding import event_decoder
from allotment_kube.models import Object
from allotment_kube.pods import Pod
from allotment_kube.tls import PemSource, TlsSettings

TOKEN = "x" * 900  # as long as a projected service account token
ANSWER = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}).encode()


def pod_event(number: int) -> bytes:
    """A MODIFIED event of about 4.5 kB, as managed clusters send them: half of it is managedFields."""
    name = f"web-{number}"
    container = {
        "name": "main",
        "image": "registry.example.org/team/web:1.2.3",
        "env": [{"name": f"SETTING_{n}", "value": "value" * 4} for n in range(12)],
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
    }
    fields: Object = {f"f:field-{n}": {"f:sub": {}, 'k:{"name":"main"}': {".": {}}} for n in range(24)}
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"}
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    item = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"00000000-0000-0000-0000-{number:012d}",
            "resourceVersion": str(1000 + number),
            "creationTimestamp": "2030-01-01T00:00:00Z",
            "labels": {"app": "web", "pod-template-hash": "abc123", "allotment.dev/pod-group": "g"},
            "annotations": {"example.org/note": "n" * 200},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": True}
            ],
            "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": fields}],
        },
        "spec": {
            "containers": [container],
            "nodeName": "node-17",
            "schedulerName": "allotment",
            "priority": 0,
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
            "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        },
        "status": {"phase": "Running", "conditions": conditions, "podIP": "10.1.2.3", "qosClass": "Burstable"},
    }
    return json.dumps({"type": "MODIFIED", "object": item}, separators=(",", ":")).encode()


def best(measure: Callable[[], float], rounds: int = 3) -> float:
    """The smallest of several measurements: what is left when nobody disturbs."""
    return min(measure() for _ in range(rounds))


def bench_decoding(*, against_generated: bool) -> None:
    """Time per event, CPU microseconds."""
    events = [pod_event(number) for number in range(5_000)]
    size = sum(map(len, events)) / len(events)
    decoders: dict[str, Callable[[bytes], object]] = {
        "json.loads": json.loads,
        "msgspec, dict": msgspec.json.Decoder().decode,
        "msgspec, Pod": event_decoder(Pod).decode,
    }
    if against_generated:
        decoders["kubernetes V1Pod"] = generated_decoder()
    print(f"decoding watch events of {size:.0f} B")
    for name, decode in decoders.items():
        sample = events if "V1Pod" not in name else events[:300]

        def measure(decode: Callable[[bytes], object] = decode, sample: list[bytes] = sample) -> float:
            began = time.process_time()
            for event in sample:
                decode(event)
            return (time.process_time() - began) / len(sample)

        seconds = best(measure)
        print(f"  {name:<18} {seconds * 1e6:8.1f} us   {1 / seconds:10,.0f} events/s")


def generated_decoder() -> Callable[[bytes], object]:
    """The generated client's way from bytes to a model."""
    from kubernetes.client import V1Pod  # noqa: PLC0415 - an import of seconds that only this option needs

    def decode(event: bytes) -> object:
        return V1Pod.model_validate(json.loads(event)["object"])

    return decode


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, key_pem = folder / "tls.crt", folder / "tls.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, key_pem


class Responder(asyncio.Protocol):
    """Answers every complete POST with the same 201."""

    REPLY = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(ANSWER),
        ANSWER,
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, separator, rest = self.buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self.transport.write(self.REPLY)


def serve(certificate: Path, key: Path, port: "multiprocessing.Queue[int]") -> None:
    """The server process."""

    async def run() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", 0, ssl=context)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def bind_many(configuration: Configuration, count: int, connections: int) -> tuple[float, float]:
    """CPU and wall seconds per binding."""
    async with Client.connect(configuration, connections=connections, rng=random.Random(0)) as client:

        async def worker(share: int) -> None:
            for number in range(share):
                await client.bind("team", f"pod-{number}", uid="00000000-0000-0000-0000-000000000000", node="node-17")

        await asyncio.gather(*(worker(1) for _ in range(connections)))  # connect first
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*(worker(count // connections) for _ in range(connections)))
        done = count // connections * connections
        return (time.process_time() - cpu) / done, (time.perf_counter() - wall) / done


def bind_many_generated(url: str, certificate: Path, count: int) -> tuple[float, float]:
    """The same with the generated client, through its generic call: the typed one fails on every success."""
    from kubernetes import client as generated  # noqa: PLC0415 - as above

    configuration = generated.Configuration(host=url)
    configuration.ssl_ca_cert = str(certificate)
    configuration.api_key = {"authorization": f"Bearer {TOKEN}"}
    api = generated.ApiClient(configuration)
    body: Object = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "pod-1", "namespace": "team", "uid": "00000000-0000-0000-0000-000000000000"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node-17"},
    }

    def bind() -> Any:
        parameters = api.param_serialize(
            "POST",
            "/api/v1/namespaces/{namespace}/pods/{name}/binding",
            path_params={"namespace": "team", "name": "pod-1"},
            header_params={"Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        return api.call_api(*parameters).read()  # type: ignore[no-untyped-call] # the package is half typed

    bind()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        bind()
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def bench_binding(*, against_generated: bool) -> None:
    """Time per binding over TLS."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = write_certificate(Path(folder))
        port: multiprocessing.Queue[int] = multiprocessing.Queue()
        server = multiprocessing.Process(target=serve, args=(certificate, key, port), daemon=True)
        server.start()
        try:
            url = f"https://127.0.0.1:{port.get(timeout=30)}"
            configuration = Configuration(
                url,
                credentials=FixedCredentials(bearer(TOKEN)),
                tls=TlsSettings(authority=PemSource(path=certificate)),
            )
            print("POSTing bindings over TLS, CPU of the client only")
            for connections in (1, 64):
                cpu, wall = min(asyncio.run(bind_many(configuration, 3_000, connections)) for _ in range(3))
                print(f"  {connections:3} connections    {cpu * 1e6:8.0f} us CPU   {1 / wall:8,.0f} bindings/s")
            if against_generated:
                cpu, wall = min(bind_many_generated(url, certificate, 1_000) for _ in range(3))
                print(f"  kubernetes package {cpu * 1e6:8.0f} us CPU   {1 / wall:8,.0f} bindings/s (1 thread)")
        finally:
            server.terminate()
            server.join()


def bench_import(*, against_generated: bool) -> None:
    """What importing costs a fresh process."""
    code = (
        "import time;{};from pathlib import Path;status=Path('/proc/self/status').read_text();"
        "print(time.process_time(), status.split('VmRSS:')[1].split()[0])"
    )
    modules = ["pass", "import allotment_kube"] + ["import kubernetes.client"] * against_generated
    print("importing")
    for module in modules:
        outputs = [
            subprocess.run(
                [sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True
            ).stdout
            for _ in range(3)
        ]
        seconds, kilobytes = min(tuple(map(float, output.split())) for output in outputs)
        print(f"  {module:<26} {seconds:5.2f} CPU s   {kilobytes / 1024:5.0f} MB resident")


def main() -> None:
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against-generated", action="store_true", help="measure the kubernetes package as well")
    against_generated: bool = parser.parse_args().against_generated
    bench_decoding(against_generated=against_generated)
    bench_binding(against_generated=against_generated)
    bench_import(against_generated=against_generated)


if __name__ == "__main__":
    main()
