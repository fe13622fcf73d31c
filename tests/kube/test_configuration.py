"""Kubeconfig files as kubectl reads them."""

import asyncio
import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from allotment_kube.configuration import from_kubeconfig, load_configuration
from allotment_kube.credentials import ExecCredentials, ExecPlugin, TokenFileCredentials
from allotment_kube.errors import ConfigurationError

SERVER = "https://10.0.0.1:6443"


def kubeconfig(
    path: Path, *, name: str = "a", current: str = "a", user: Any = None, cluster: dict[str, Any] | None = None
) -> Path:
    content = {
        "current-context": current,
        "clusters": [{"name": name, "cluster": {"server": SERVER, **(cluster or {})}}],
        "users": [{"name": name, "user": user or {"token": f"token-of-{name}"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"ns-{name}"}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def authorization(configuration: Any) -> str | None:
    identity = configuration.credentials.current()
    assert identity is not None
    value: str | None = identity.authorization
    return value


def test_the_first_file_of_a_list_wins_and_missing_files_are_passed_over(tmp_path: Path) -> None:
    first = kubeconfig(tmp_path / "one", name="a", current="b")
    second = kubeconfig(tmp_path / "two", name="b", current="ignored")
    third = kubeconfig(tmp_path / "three", name="b", user={"token": "loses"})
    listed = os.pathsep.join(map(str, [tmp_path / "missing", first, second, third]))

    configuration = load_configuration(environment={"KUBECONFIG": listed})

    assert (configuration.namespace, authorization(configuration)) == ("ns-b", "Bearer token-of-b")
    other = load_configuration(environment={"KUBECONFIG": listed}, context="a")
    assert (other.namespace, authorization(other)) == ("ns-a", "Bearer token-of-a")


def test_relative_paths_count_from_their_own_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "token").write_text("from-file\n", encoding="utf-8")
    (tmp_path / "deep" / "ca.crt").write_text("CA", encoding="utf-8")
    path = kubeconfig(
        tmp_path / "deep" / "config", user={"tokenFile": "token"}, cluster={"certificate-authority": "ca.crt"}
    )

    configuration = from_kubeconfig([path])

    assert authorization(configuration) == "Bearer from-file"
    assert configuration.tls.authority.read() == b"CA"


def test_everything_a_cluster_and_a_user_can_say_is_read(tmp_path: Path) -> None:
    pem = base64.b64encode(b"PEM").decode()
    path = kubeconfig(
        tmp_path / "config",
        user={
            "client-certificate-data": pem,
            "client-key-data": pem,
            "as": "jane",
            "as-groups": ["devs", "ops"],
            "as-uid": "7",
            "as-user-extra": {"reason": ["audit"]},
        },
        cluster={
            "certificate-authority-data": pem,
            "tls-server-name": "kubernetes",
            "insecure-skip-tls-verify": True,
            "proxy-url": "http://proxy:3128",
        },
    )

    configuration = from_kubeconfig([path])

    assert configuration.tls.certificate.read() == configuration.tls.authority.read() == b"PEM"
    assert (configuration.tls.server_name, configuration.tls.insecure) == ("kubernetes", True)
    assert configuration.proxy_url == "http://proxy:3128"
    assert configuration.impersonation.headers() == [
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "devs"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-reason", "audit"),
    ]


@pytest.mark.parametrize(
    ("content", "want"),
    [
        ("", "does not exist"),
        ("{}", "no current-context"),
        ("current-context: x", "contexts has no 'x'; known: none"),
        ("[a]", "is not a mapping"),
        ("token: secret: x", "cannot be read, line 1"),
        ("clusters: [{cluster: {}}]", "an entry of clusters has no name"),
    ],
)
def test_a_bad_file_is_named_with_what_to_change(tmp_path: Path, content: str, want: str) -> None:
    path = tmp_path / "config"
    if content:
        path.write_text(content, encoding="utf-8")

    with pytest.raises(ConfigurationError) as raised:
        from_kubeconfig([path])

    assert want in str(raised.value)
    assert str(path) in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("user", "cluster", "want"),
    [
        ({"auth-provider": {}}, {}, "use an exec plugin"),
        ({"as-groups": ["x"]}, {}, "need `as`"),
        ({"client-certificate-data": "%%%"}, {}, "not valid base64"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}}, {}, "is not supported"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, {}, "needs a command"),
        ({"exec": {"command": "x", "interactiveMode": "Always"}}, {}, "wants a terminal"),
        ({}, {"server": "10.0.0.1"}, "must be an http(s) URL"),
    ],
)
def test_a_bad_entry_is_refused_with_what_to_change(tmp_path: Path, user: Any, cluster: Any, want: str) -> None:
    path = kubeconfig(tmp_path / "config", user=user or None, cluster=cluster)

    with pytest.raises(ConfigurationError, match=want.replace("(", r"\(").replace(")", r"\)")):
        from_kubeconfig([path])


def test_without_a_kubeconfig_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("pod-token", encoding="utf-8")
    (tmp_path / "namespace").write_text("tenant-a", encoding="utf-8")
    environment = {"HOME": str(tmp_path), "KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    (tmp_path / "ca.crt").write_text("CA", encoding="utf-8")

    configuration = load_configuration(environment=environment, service_account_folder=tmp_path)

    assert configuration.server == "https://[fd00::1]:443"
    assert configuration.namespace == "tenant-a"
    assert authorization(configuration) == "Bearer pod-token"


def test_outside_of_everything_the_complaint_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set KUBECONFIG"):
        load_configuration(environment={"HOME": str(tmp_path)})


def test_secrets_never_show_in_a_repr(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", user={"token": "s3cret"}, cluster={"proxy-url": "http://u:s3cret@proxy"})
    configuration = from_kubeconfig([path])

    assert "s3cret" not in repr(configuration) + repr(configuration.credentials.current())


def test_a_rotated_token_file_is_read_again_after_a_while_and_survives_its_absence(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one", encoding="utf-8")
    now = [0.0]
    credentials = TokenFileCredentials(path, reread_after=10.0, clock=lambda: now[0])
    seen = []
    for time, content in [(0.0, "one"), (5.0, "two"), (10.0, "two"), (20.0, None), (30.0, "three")]:
        now[0] = time
        if content is None:
            path.unlink()
        else:
            path.write_text(content, encoding="utf-8")
        identity = credentials.current()
        assert identity is not None
        seen.append(identity.authorization)

    assert seen == ["Bearer one", "Bearer one", "Bearer two", "Bearer two", "Bearer three"]


def plugin(tmp_path: Path, script: str, **settings: Any) -> ExecPlugin:
    path = tmp_path / "plugin"
    path.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return ExecPlugin(str(path), "client.authentication.k8s.io/v1", **settings)


def answer(token: str, expires: str = "2030-01-01T00:00:00Z") -> str:
    status = f'{{"token":"{token}","expirationTimestamp":"{expires}"}}'
    return f'{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{status}}}'


async def test_a_plugin_runs_once_until_its_credential_expires_or_is_rejected(tmp_path: Path) -> None:
    now = [0.0]
    credentials = ExecCredentials(plugin(tmp_path, f"echo '{answer('t')}'"), wall_clock=lambda: now[0])
    assert credentials.current() is None

    first = await asyncio.gather(*(credentials.obtain(rejected=None) for _ in range(20)))
    again = await asyncio.gather(*(credentials.obtain(rejected=first[0]) for _ in range(20)))
    now[0] = 1893456000.0  # 2030

    assert {identity.authorization for identity in first + again} == {"Bearer t"}
    assert len(set(map(id, first))) == len(set(map(id, again))) == 1
    assert (tmp_path / "runs").read_text().count("run") == 2
    assert credentials.current() is None


async def test_a_plugin_is_told_about_the_cluster_and_its_environment(tmp_path: Path) -> None:
    script = f'echo "$KUBERNETES_EXEC_INFO" > {tmp_path}/info; echo "$EXTRA" > {tmp_path}/extra; echo \'{answer("t")}\''
    spec = plugin(tmp_path, script, env={"EXTRA": "yes"}, cluster={"server": SERVER})

    await ExecCredentials(spec).obtain(rejected=None)

    assert yaml.safe_load((tmp_path / "info").read_text())["spec"] == {
        "interactive": False,
        "cluster": {"server": SERVER},
    }
    assert (tmp_path / "extra").read_text() == "yes\n"


@pytest.mark.parametrize(
    ("script", "want"),
    [
        ("echo 'please log in' >&2; exit 3", r"failed \(3\): please log in"),
        ("echo not-json-s3cret", "printed no ExecCredential"),
        ("""echo '{"apiVersion":"v9","kind":"ExecCredential","status":{"token":"s3cret"}}'""", "answered v9"),
        (f"echo '{answer('')}'", "neither a token nor a certificate"),
    ],
)
async def test_a_failing_plugin_is_quoted_without_its_secret(tmp_path: Path, script: str, want: str) -> None:
    with pytest.raises(ConfigurationError, match=want) as raised:
        await ExecCredentials(plugin(tmp_path, script)).obtain(rejected=None)

    assert "s3cret" not in str(raised.value)


async def test_a_missing_plugin_comes_with_its_install_hint() -> None:
    spec = ExecPlugin(
        "/nowhere/aws-iam", "client.authentication.k8s.io/v1", install_hint="Install it from the intranet."
    )

    with pytest.raises(ConfigurationError, match="Install it from the intranet"):
        await ExecCredentials(spec).obtain(rejected=None)


async def test_a_plugin_that_hangs_is_killed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no answer in 0\.2 s"):
        await ExecCredentials(plugin(tmp_path, "exec sleep 60", timeout=0.2)).obtain(rejected=None)
