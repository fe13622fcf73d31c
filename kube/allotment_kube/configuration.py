"""Where the API server is and who we are to it: kubeconfig files as kubectl reads them, or the pod we run in.

Files of a KUBECONFIG list are merged as kubectl merges them: the first file that names a cluster, user, context or the
current context wins, missing files are passed over, and relative paths count from the file that holds them. Without
any kubeconfig a program in a pod uses its service account.

Loading reads files and nothing else: no plugin runs and no connection is made before the first request. Every
complaint says which file and which entry to change.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from .credentials import (
    Credentials,
    ExecCredentials,
    ExecPlugin,
    FixedCredentials,
    Identity,
    TokenFileCredentials,
    basic,
    bearer,
)
from .errors import ConfigurationError
from .tls import PemSource, TlsSettings

SERVICE_ACCOUNT_FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Impersonation:
    """Act as somebody else; the server checks that we may (`impersonate` verb)."""

    user: str = ""
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def headers(self) -> list[tuple[str, str]]:
        """The request headers that ask for it."""
        if not self.user:
            return []
        found = [("Impersonate-User", self.user)]
        found += [("Impersonate-Group", group) for group in self.groups]
        if self.uid:
            found.append(("Impersonate-Uid", self.uid))
        found += [(f"Impersonate-Extra-{key}", value) for key, values in self.extra.items() for value in values]
        return found


@dataclass(frozen=True, slots=True)
class Configuration:
    """One API server and one user of it.

    Attributes:
        server: URL without a trailing slash.
        namespace: the context's (or the pod's own) namespace.
        proxy_url: HTTP proxy for all connections; its password is why it is kept out of `repr`.
    """

    server: str
    credentials: Credentials = field(default=FixedCredentials(Identity()), repr=False)
    tls: TlsSettings = field(default_factory=TlsSettings)
    namespace: str = "default"
    impersonation: Impersonation = Impersonation()
    proxy_url: str = field(default="", repr=False)

    def acting_as(self, user: str, *groups: str) -> "Configuration":
        """The same server as somebody else."""
        return replace(self, impersonation=Impersonation(user, groups))

    def with_credentials(self, credentials: Credentials) -> "Configuration":
        """The same server, proven otherwise: the client certificate of the file is left out."""
        return replace(self, credentials=credentials, tls=replace(self.tls, certificate=PemSource(), key=PemSource()))


def load_configuration(
    kubeconfig: Path | None = None,
    *,
    context: str = "",
    environment: Mapping[str, str] = os.environ,
    service_account_folder: Path = SERVICE_ACCOUNT_FOLDER,
) -> Configuration:
    """Load what kubectl would: the given file, KUBECONFIG, `~/.kube/config`, or the pod's service account.

    Raises:
        ConfigurationError: nothing usable was found; the message says what to change.
    """
    if kubeconfig is not None:
        if not kubeconfig.is_file():
            raise ConfigurationError(f"kubeconfig {kubeconfig} does not exist")
        return from_kubeconfig([kubeconfig], context=context)
    if listed := environment.get("KUBECONFIG"):
        return from_kubeconfig([Path(part) for part in listed.split(os.pathsep) if part], context=context)
    default = Path(environment.get("HOME", "~")).expanduser() / ".kube" / "config"
    if default.is_file():
        return from_kubeconfig([default], context=context)
    return from_service_account(environment=environment, folder=service_account_folder)


def from_service_account(
    *, environment: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT_FOLDER
) -> Configuration:
    """Use the service account of the pod we run in; its token is re-read as the kubelet rotates it."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise ConfigurationError(
            "no kubeconfig and not in a pod: set KUBECONFIG, create ~/.kube/config, or run in a cluster"
        )
    if not (folder / "token").is_file():
        raise ConfigurationError(f"{folder}/token is missing: set automountServiceAccountToken on the pod")
    namespace = folder / "namespace"
    return Configuration(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        credentials=TokenFileCredentials(folder / "token"),
        tls=TlsSettings(authority=PemSource(path=folder / "ca.crt")),
        namespace=namespace.read_text(encoding="utf-8").strip() if namespace.is_file() else "default",
    )


def from_kubeconfig(paths: list[Path], *, context: str = "") -> Configuration:
    """Merge kubeconfig files and resolve one context."""
    merged = _Merged()
    for path in paths:
        if path.is_file():
            merged.add(path)
    if not merged.files:
        raise ConfigurationError(f"kubeconfig {_names(paths)} does not exist")
    name = context or merged.current_context
    if not name:
        raise ConfigurationError(f"{_names(paths)}: no current-context; set one or name a context")
    chosen = merged.find("contexts", name)
    cluster = merged.find("clusters", str(chosen.get("cluster", "")))
    user = merged.find("users", str(chosen["user"])) if chosen.get("user") else {}
    server = cluster.get("server")
    if not isinstance(server, str) or not server.startswith(("http://", "https://")):
        raise ConfigurationError(f"cluster {chosen.get('cluster')!r}: server must be an http(s) URL, not {server!r}")
    return Configuration(
        server=server.rstrip("/"),
        credentials=_credentials(user, cluster),
        tls=TlsSettings(
            authority=_pem(cluster, "certificate-authority"),
            certificate=_pem(user, "client-certificate"),
            key=_pem(user, "client-key"),
            server_name=str(cluster.get("tls-server-name", "")),
            insecure=cluster.get("insecure-skip-tls-verify") is True,
        ),
        namespace=str(chosen.get("namespace") or "default"),
        impersonation=_impersonation(user),
        proxy_url=str(cluster.get("proxy-url", "")),
    )


class _Merged:
    """Entries of several kubeconfig files; the first of a name wins."""

    def __init__(self) -> None:
        self.current_context = ""
        self._entries: dict[tuple[str, str], _Entry] = {}
        self.files: list[Path] = []

    def add(self, path: Path) -> None:
        """Take in one file."""
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            # A YAML error quotes the offending line, which may be a token: say where, not what.
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            raise ConfigurationError(f"kubeconfig {path} cannot be read{where}: {type(error).__name__}") from None
        if not isinstance(content, dict):
            raise ConfigurationError(f"kubeconfig {path} is not a mapping")
        self.files.append(path)
        self.current_context = self.current_context or str(content.get("current-context") or "")
        for section, singular in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
            for entry in content.get(section) or []:
                if not isinstance(entry, dict) or "name" not in entry:
                    raise ConfigurationError(f"kubeconfig {path}: an entry of {section} has no name")
                value = dict(entry.get(singular) or {})
                value[_FOLDER] = path.parent
                self._entries.setdefault((section, str(entry["name"])), value)

    def find(self, section: str, name: str) -> _Entry:
        """The entry of a name, or a complaint that lists what there is."""
        if (section, name) not in self._entries:
            known = sorted(other for kind, other in self._entries if kind == section)
            raise ConfigurationError(
                f"{_names(self.files) or 'kubeconfig'}: {section} has no {name!r}; known: {', '.join(known) or 'none'}"
            )
        return self._entries[section, name]


_FOLDER: Final = "\0folder"  # where the entry's file lies; no key of a kubeconfig can look like this


def _names(paths: list[Path]) -> str:
    return ", ".join(str(path) for path in paths)


def _relative(entry: _Entry, path: str) -> Path:
    return Path(entry[_FOLDER], path)  # an absolute path stands for itself


def _pem(entry: _Entry, key: str) -> PemSource:
    if inline := entry.get(f"{key}-data"):
        try:
            return PemSource(data=base64.b64decode(inline, validate=True))
        except (binascii.Error, TypeError, ValueError):
            raise ConfigurationError(f"{key}-data is not valid base64") from None
    if path := entry.get(key):
        return PemSource(path=_relative(entry, str(path)))
    return PemSource()


def _impersonation(user: _Entry) -> Impersonation:
    extra = {str(key): tuple(map(str, values)) for key, values in (user.get("as-user-extra") or {}).items()}
    groups = tuple(map(str, user.get("as-groups") or ()))
    if (groups or extra) and not user.get("as"):
        raise ConfigurationError("as-groups and as-user-extra need `as`: the user to impersonate")
    return Impersonation(str(user.get("as") or ""), groups, str(user.get("as-uid") or ""), extra)


def _credentials(user: _Entry, cluster: _Entry) -> Credentials:
    if "auth-provider" in user:
        raise ConfigurationError("auth-provider was removed from Kubernetes in 1.26: use an exec plugin")
    # The token wins over the file only if the file is not named: client-go's precedence.
    if path := user.get("tokenFile"):
        return TokenFileCredentials(_relative(user, str(path)))
    if token := user.get("token"):
        return FixedCredentials(bearer(str(token)))
    if user.get("username"):
        return FixedCredentials(basic(str(user["username"]), str(user.get("password", ""))))
    if plugin := user.get("exec"):
        return ExecCredentials(_exec_plugin(plugin, user, cluster))
    return FixedCredentials(Identity())


def _exec_plugin(plugin: _Entry, user: _Entry, cluster: _Entry) -> ExecPlugin:
    command = str(plugin.get("command") or "")
    if not command:
        raise ConfigurationError("an exec plugin needs a command")
    if plugin.get("interactiveMode") == "Always":
        raise ConfigurationError(f"exec plugin {command!r} wants a terminal (interactiveMode: Always); there is none")
    return ExecPlugin(
        # As kubectl: a command with a slash is relative to its kubeconfig, a bare one is looked up in PATH.
        command=str(_relative(user, command)) if "/" in command else command,
        api_version=str(plugin.get("apiVersion", "")),
        args=tuple(map(str, plugin.get("args") or ())),
        env={str(item["name"]): str(item["value"]) for item in plugin.get("env") or ()},
        install_hint=str(plugin.get("installHint") or "").strip(),
        cluster=_cluster_info(cluster) if plugin.get("provideClusterInfo") else None,
    )


def _cluster_info(cluster: _Entry) -> dict[str, object]:
    info: dict[str, object] = {
        key: cluster[key]
        for key in ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url")
        if key in cluster
    }
    if authority := _pem(cluster, "certificate-authority").read():
        info["certificate-authority-data"] = base64.b64encode(authority).decode()
    for extension in cluster.get("extensions") or ():
        if extension.get("name") == "client.authentication.k8s.io/exec":
            info["config"] = extension.get("extension")
    return info
