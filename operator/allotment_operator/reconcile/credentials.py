"""Secrets that plans ask for: passwords, authorities and certificates, made once and renewed in time.

Each function takes the action and the Secret as it is (or None) and returns the manifest that it should be, or None
where nothing has to change. What exists and is still good is never replaced: a password that a client knows stays,
an authority that certificates were signed with stays.

Nothing here logs or returns secret material in an error.
"""

import base64
import datetime as dt
import hashlib
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

from allotment_kube import certificates
from allotment_kube.certificates import KeyPair
from allotment_operator.plans.actions import EnsureAuthority, EnsureCertificate, EnsureCredential, Manifest
from allotment_operator.plans.workload import CERTIFICATE_ENDS_ANNOTATION

ALPHABET = string.ascii_letters + string.digits
"""Passwords go into property files, JAAS lines and URLs: no character in them ever needs quoting."""

CERTIFICATE_KEYS = ("tls.crt", "tls.key", "tls.pem", "ca.crt")
"""Keys of a certificate's Secret: leaf and chain, PKCS#8 key, both in one as Java services read them, authority."""

AUTHORITY_FINGERPRINT_ANNOTATION = "allotment.dev/authority"
"""Which authority signed the certificate, so that a new authority is noticed without its key."""


class AuthorityMissingError(Exception):
    """A certificate was asked for before its authority exists, or the authority's Secret holds none."""


def new_password(length: int) -> str:
    """Return a random password of letters and digits, about 5.95 bits a character."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def credential(
    action: EnsureCredential, live: Manifest | None, *, password: Callable[[int], str] = new_password
) -> dict[str, Any] | None:
    """Return the Secret with every generated key present and every fixed one up to date; None if it is so already."""
    data = dict((live or {}).get("data") or {})
    for key in action.generated:
        if not data.get(key):
            data[key] = encode(password(action.length).encode())
    for key, value in action.fixed.items():
        data[key] = encode(value.encode())
    return _secret(action.metadata, data, live, secret_type=action.secret_type)


def authority(action: EnsureAuthority, live: Manifest | None, *, now: dt.datetime) -> dict[str, Any] | None:
    """Return a new authority's Secret; None if there is one."""
    if live is not None and load_authority(live) is not None:
        return None
    pair = certificates.authority(action.common_name, now=now, lifetime=dt.timedelta(days=action.days))
    return _secret(action.metadata, {"ca.crt": encode(pair.certificate_pem), "ca.key": encode(pair.key_pem)}, live)


def certificate(
    action: EnsureCertificate, live: Manifest | None, signer: Manifest | None, *, now: dt.datetime
) -> dict[str, Any] | None:
    """Return the Secret with a certificate that is good for its purpose; None if the live one is.

    Of the live Secret only the pair of certificate and key is taken over: what else is in it follows from that pair and
    from the authority, whoever wrote it.

    Raises:
        AuthorityMissingError: ``signer`` holds no authority.
    """
    ca = load_authority(signer)
    if ca is None:
        raise AuthorityMissingError(f"{action.authority} holds no certificate authority yet")
    metadata = {**action.metadata}
    fixed = {key: encode(value.encode()) for key, value in action.fixed.items()}
    leaf = _still_good(action, live, ca, now=now) or certificates.issue(
        ca,
        action.common_name,
        now=now,
        organizations=[action.organization] if action.organization else [],
        hosts=action.dns_names if "server" in action.usages else (),
        client="client" in action.usages,
        lifetime=dt.timedelta(days=action.days),
    )
    metadata["annotations"] = {
        **metadata.get("annotations", {}),
        AUTHORITY_FINGERPRINT_ANNOTATION: fingerprint(ca),
        CERTIFICATE_ENDS_ANNOTATION: leaf.certificate.not_valid_after_utc.isoformat(),
    }
    parts = (leaf.certificate_pem, leaf.key_pem, leaf.key_pem + leaf.certificate_pem, ca.certificate_pem)
    data = dict(zip(CERTIFICATE_KEYS, map(encode, parts), strict=True)) | fixed
    return _secret(metadata, data, live, secret_type=action.secret_type)


def load_authority(secret: Manifest | None) -> KeyPair | None:
    """Read an authority out of its Secret; None where there is no sound one."""
    data: Mapping[str, str] = (secret or {}).get("data") or {}
    try:
        return KeyPair.parse(decode(data["ca.crt"]), decode(data["ca.key"]))
    except (KeyError, ValueError):
        return None


def fingerprint(pair: KeyPair) -> str:
    """Return a short name of an authority's certificate: the first half of its SHA-256."""
    return hashlib.sha256(pair.certificate_pem).hexdigest()[:32]


def encode(value: bytes) -> str:
    """Encode as a Secret's data is."""
    return base64.b64encode(value).decode()


def decode(value: str) -> bytes:
    """Decode a Secret's data."""
    return base64.b64decode(value, validate=True)


def _still_good(action: EnsureCertificate, live: Manifest | None, ca: KeyPair, *, now: dt.datetime) -> KeyPair | None:
    """Return the live pair, if it is good for its purpose and not to be renewed."""
    data: Mapping[str, str] = (live or {}).get("data") or {}
    try:
        leaf = KeyPair.parse(decode(data["tls.crt"]), decode(data["tls.key"]))
    except (KeyError, ValueError):
        return None
    wanted = frozenset(action.dns_names) if "server" in action.usages else frozenset()
    good = (
        certificates.signed_by(leaf.certificate, ca.certificate)
        and certificates.hosts_of(leaf.certificate) == wanted
        and certificates.renew_at(leaf.certificate) > now
    )
    return leaf if good else None


def _secret(
    metadata: Manifest,
    data: Mapping[str, str],
    live: Manifest | None,
    *,
    secret_type: str = "Opaque",  # noqa: S107 - a type
) -> dict[str, Any] | None:
    """Return the manifest, unless the live Secret already holds these data under these labels."""
    if live is not None and (live.get("data") or {}) == data and _carries(live["metadata"], metadata):
        return None
    return {"apiVersion": "v1", "kind": "Secret", "metadata": dict(metadata), "type": secret_type, "data": dict(data)}


def _carries(live: Manifest, wanted: Manifest) -> bool:
    return all(
        (live.get(part) or {}).get(key) == value
        for part in ("labels", "annotations")
        for key, value in (wanted.get(part) or {}).items()
    )
