"""The local cluster's keys and certificates as files.

Three authorities, as kubeadm has them, because what each signs must not open the other doors: the cluster's (serving
certificates and clients of the API), etcd's (whoever holds one of its client certificates can read every Secret), and
the front proxy's (whoever holds one may claim to be any user towards extension API servers).

Private keys are written for their owner only, before a byte of them is in the file. No certificate is reused between
clusters, and none is ever not verified. Leaves are issued anew at every start of the cluster.
"""

import os
from pathlib import Path

from allotment_kube.certificates import KeyPair


def save(pair: KeyPair, folder: Path, name: str) -> None:
    """Write `name`.crt and `name`.key."""
    write_private(folder / f"{name}.key", pair.key_pem)
    (folder / f"{name}.crt").write_bytes(pair.certificate_pem)


def load(folder: Path, name: str) -> KeyPair:
    """Read `name`.crt and `name`.key.

    Raises:
        ValueError: they are no pair.
    """
    return KeyPair.parse((folder / f"{name}.crt").read_bytes(), (folder / f"{name}.key").read_bytes())


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, replacing an older one in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
