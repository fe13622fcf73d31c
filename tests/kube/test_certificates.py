"""Certificates: what an authority signs verifies, says what it was asked to say, and is renewed in time."""

import datetime as dt
import ssl
from pathlib import Path

import pytest

from allotment_kube import certificates
from allotment_kube.certificates import KeyPair

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
AUTHORITY = certificates.authority("test authority", now=NOW)
OTHER = certificates.authority("test authority", now=NOW)


def test_a_leaf_is_signed_by_its_authority_and_by_no_namesake() -> None:
    leaf = certificates.issue(AUTHORITY, "kafka", now=NOW, hosts=["kafka.example", "10.0.0.1"])

    assert certificates.signed_by(leaf.certificate, AUTHORITY.certificate)
    assert not certificates.signed_by(leaf.certificate, OTHER.certificate)
    assert certificates.hosts_of(leaf.certificate) == {"kafka.example", "10.0.0.1"}


def test_renewal_is_due_after_two_thirds_of_the_life() -> None:
    leaf = certificates.issue(AUTHORITY, "kafka", now=NOW, client=True, lifetime=dt.timedelta(days=90))

    assert abs(certificates.renew_at(leaf.certificate) - (NOW + dt.timedelta(days=60))) < dt.timedelta(hours=1)


def test_a_pair_survives_being_written_and_read() -> None:
    pair = KeyPair.parse(AUTHORITY.certificate_pem, AUTHORITY.key_pem)

    assert pair.certificate == AUTHORITY.certificate


def test_a_key_that_belongs_to_another_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="does not belong"):
        KeyPair.parse(AUTHORITY.certificate_pem, OTHER.key_pem)


def test_openssl_accepts_a_server_with_such_a_certificate(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    authority = certificates.authority("authority", now=now)
    leaf = certificates.issue(authority, "localhost", now=now, hosts=["localhost"])
    chain = tmp_path / "server.pem"
    chain.write_bytes(leaf.key_pem + leaf.certificate_pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    client = ssl.create_default_context(cadata=authority.certificate_pem.decode())

    assert handshake(client, server, "localhost") == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server, "elsewhere")


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> str | None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ours.version()
