"""Certificates: who signs what, for how long, and who can read the keys."""

import datetime as dt
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from allotment_kube.certificates import LEAF_LIFETIME, KeyPair, authority, issue
from allotment_local.credentials import write_credentials
from allotment_local.keyfiles import load, save, write_private
from allotment_local.specification import Ports, Specification

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def ca() -> KeyPair:
    return authority("test-ca", now=dt.datetime.now(tz=dt.UTC))


def specification(folder: Path) -> Specification:
    return Specification(
        name="certs", folder=folder, ports=Ports(1, 2, 3, 4, 5), binaries={}, address="192.0.2.7", hosts=("kube.test",)
    )


def test_an_authority_signs_leaves_only(ca: KeyPair) -> None:
    constraints = ca.certificate.extensions.get_extension_for_class(x509.BasicConstraints)

    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)


def test_a_client_certificate_names_its_user_and_groups_and_cannot_serve(ca: KeyPair) -> None:
    client = issue(ca, "alice", organizations=["team-a", "team-b"], client=True, now=NOW).certificate

    assert client.subject.rfc4514_string() == "CN=alice,O=team-b,O=team-a"
    assert list(client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    client.verify_directly_issued_by(ca.certificate)


def test_a_serving_certificate_holds_names_and_addresses(ca: KeyPair) -> None:
    serving = issue(ca, "server", hosts=["localhost", "127.0.0.1", "::1"], now=NOW).certificate
    names = serving.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert serving.not_valid_after_utc == NOW + LEAF_LIFETIME


def test_a_client_that_trusts_the_authority_accepts_the_server_and_no_other_client_certificate(
    ca: KeyPair, tmp_path: Path
) -> None:
    now = dt.datetime.now(tz=dt.UTC)
    save(issue(ca, "server", hosts=["localhost"], now=now), tmp_path, "server")
    foreign = authority("foreign-ca", now=now)
    save(issue(foreign, "mallory", client=True, now=now), tmp_path, "mallory")
    save(issue(ca, "alice", client=True, now=now), tmp_path, "alice")

    assert _handshake(ca, tmp_path, "alice")
    assert not _handshake(ca, tmp_path, "mallory")


def _handshake(ca: KeyPair, folder: Path, client: str) -> bool:
    """Whether a server that wants client certificates of `ca` and this client agree, in memory."""
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=ca.certificate_pem.decode())
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.load_cert_chain(folder / "server.crt", folder / "server.key")
    client_context = ssl.create_default_context(cadata=ca.certificate_pem.decode())
    client_context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client_context.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server_context.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
            ends.remove(end)
    return not ends


def test_a_private_file_is_never_readable_by_others_not_even_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old, readable by all")
    path.chmod(0o644)

    write_private(path, b"new")

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_start_issues_new_leaves_and_keeps_the_authorities(tmp_path: Path) -> None:
    spec = specification(tmp_path)
    write_credentials(spec, now=NOW)
    authorities = {path.name: path.read_bytes() for path in spec.pki.glob("*ca.*")}
    service_accounts = (spec.pki / "service-accounts.key").read_bytes()

    later = NOW + dt.timedelta(days=300)
    write_credentials(spec, now=later)

    assert {path.name: path.read_bytes() for path in spec.pki.glob("*ca.*")} == authorities
    assert (spec.pki / "service-accounts.key").read_bytes() == service_accounts
    assert load(spec.pki, "kube-apiserver").certificate.not_valid_after_utc == later + LEAF_LIFETIME


def test_the_api_server_may_be_called_by_every_name_it_has(tmp_path: Path) -> None:
    spec = specification(tmp_path)
    write_credentials(spec, now=NOW)
    certificate = load(spec.pki, "kube-apiserver").certificate
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {
        "192.0.2.7",
        "127.0.0.1",
        "10.96.0.1",
    }
    assert {"localhost", "kubernetes.default.svc", "kube.test"} <= set(names.get_values_for_type(x509.DNSName))


def test_each_door_has_its_own_authority(tmp_path: Path) -> None:
    spec = specification(tmp_path)
    write_credentials(spec, now=NOW)
    signers = {
        leaf: load(spec.pki, leaf).certificate.issuer.rfc4514_string()
        for leaf in ("kube-apiserver", "etcd-client", "front-proxy-client")
    }

    assert len(set(signers.values())) == 3


def test_no_private_key_is_readable_by_others(tmp_path: Path) -> None:
    spec = specification(tmp_path)
    write_credentials(spec, now=NOW)
    private = [*spec.pki.glob("*.key"), *(spec.folder / "clients").iterdir(), spec.kubeconfig]

    assert len(private) >= 12
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
