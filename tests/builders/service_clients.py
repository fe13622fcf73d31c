"""Independent clients of tenants' services, run in pods of the cluster as tenants' own programs are.

The programs below import other people's client libraries and nothing of ours. They read the Secret of a service or a
user as it is, mounted at /binding, and print one line of JSON.
"""

import importlib.metadata
from pathlib import Path
from typing import Any

from allotment_local.real_node.images import recipes
from allotment_local.real_node.images.layout import RunSettings
from allotment_local.real_node.images.recipes import Recipe
from allotment_local.real_node.images.sources import python
from builders.real_pods import IDLE, container, pod_spec

KAFKA_CLIENT = f"confluent-kafka=={importlib.metadata.version('confluent-kafka')}"
CASSANDRA_CLIENT = "cassandra-driver==3.30.1"

_LIBRARY = "/opt/client"


def image(*requirements: str) -> Recipe:
    """Python with client libraries."""

    def fill(root: Path, downloads: Path) -> None:
        python.install(requirements, root / _LIBRARY.lstrip("/"), cache=downloads / "python")

    settings = RunSettings(environment={"PYTHONPATH": _LIBRARY}, user="1000:1000")
    tag = requirements[0].replace("==", "-")
    return Recipe("client", tag, requirements, fill, base=recipes.base(), settings=settings)


def client_pod(namespace: str, name: str, *, recipe: Recipe, secret: str = "", **fields: Any) -> dict[str, Any]:
    """A pod that waits for programs to be run in it; the Secret of a service is mounted where they look for it."""
    mounts = [{"name": "binding", "mountPath": "/binding", "readOnly": True}] if secret else []
    volumes = [{"name": "binding", "secret": {"secretName": secret, "defaultMode": 0o440}}] if secret else []
    requests = {"requests": {"cpu": "50m", "memory": "64Mi"}}
    main = container(*IDLE, image=recipe.reference, volumeMounts=mounts, resources=requests)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": pod_spec(main, volumes=volumes, automountServiceAccountToken=False, **fields),
    }


_KAFKA = """
import json, sys, time
from pathlib import Path
from confluent_kafka import Consumer, KafkaError, Producer

SECONDS = 240
refused = []
binding = {file.name: file.read_text() for file in Path("/binding").iterdir() if file.is_file()}
settings = {
    "bootstrap.servers": binding["bootstrap-servers"],
    "security.protocol": binding["security-protocol"],
    "sasl.mechanism": binding["sasl-mechanism"],
    "sasl.username": binding["username"],
    "sasl.password": binding["password"],
    "ssl.ca.pem": binding["certificates"],
    "error_cb": lambda error: refused.append(error.name()),
}


def produce(topic, values):
    failed = []
    producer = Producer({**settings, "acks": "all", "linger.ms": 5, "delivery.timeout.ms": SECONDS * 1000})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failed.append(error.name()) if error else None)
        producer.poll(0)
    left = producer.flush(SECONDS + 30)
    return {"left": left, "failed": sorted(set(failed))}


def consume(topic, group, prefix, count):
    options = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({**settings, **options})
    seen, errors, end = set(), set(), time.monotonic() + SECONDS
    try:
        consumer.subscribe([topic])
        while len(seen) < count and not errors and time.monotonic() < end:
            for message in consumer.consume(500, timeout=1):
                if message.error():
                    errors.add(message.error().name())
                elif message.value().decode().startswith(prefix):
                    seen.add(message.value().decode())
    finally:
        consumer.close()
    return {"seen": sorted(seen), "errors": sorted(errors)}


def knock(password):
    settings["sasl.password"] = password
    producer, end = Producer(settings), time.monotonic() + SECONDS
    while KafkaError._AUTHENTICATION not in [getattr(KafkaError, name, None) for name in refused]:
        if time.monotonic() > end:
            break
        producer.poll(0.5)
    return {"refused": sorted(set(refused))}
"""


def kafka(call: str) -> str:
    """A program that makes one of the calls above: ``produce``, ``consume`` or ``knock``."""
    return f"{_KAFKA}\nprint(json.dumps({call}))\n"


def cassandra(*statements: str) -> str:
    """A program that logs in to Cassandra over TLS and runs statements; it prints the last one's rows."""
    return f"""
import json, ssl, time
from pathlib import Path
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster

binding = {{file.name: file.read_text() for file in Path("/binding").iterdir() if file.is_file()}}
context = ssl.create_default_context(cadata=binding["certificates"])
settings = dict(
    port=int(binding["port"]),
    auth_provider=PlainTextAuthProvider(binding["username"], binding["password"]),
    ssl_context=context,
    ssl_options={{"server_hostname": binding["host"]}},
    connect_timeout=60,
    control_connection_timeout=60,
)
end = time.monotonic() + 240
while True:  # names, policies and a Service's addresses reach a node a moment after its pods are ready
    try:
        cluster = Cluster([binding["host"]], **settings)
        session = cluster.connect()
        break
    except Exception as error:
        if "AuthenticationFailed" in str(error) or time.monotonic() > end:
            raise
        time.sleep(1)
session.default_timeout = 120
rows = []
for statement in {statements!r}:
    rows = [list(row) for row in session.execute(statement)]
cluster.shutdown()
print(json.dumps(rows))
"""


def door(host: str, port: int, *, wanted: str) -> str:
    """A program that says whether a port is `open` or `closed`, or its host's name `unknown`; policies take seconds."""
    return f"""
import json, socket, time

end, answer = time.monotonic() + 240, None
while answer != {wanted!r} and time.monotonic() < end:
    if answer:
        time.sleep(0.5)
    try:
        socket.create_connection(({host!r}, {port}), 10).close()
        answer = "open"
    except socket.gaierror:
        answer = "unknown"
    except OSError:
        answer = "closed"
print(json.dumps(answer))
"""
