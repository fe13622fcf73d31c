"""Whether the API server is there, ready, and new enough."""

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from .client import Client
from .errors import ApiError, ConfigurationError, ProtocolError
from .transport import Request

OLDEST_SUPPORTED: Final = (1, 36)


class _VersionInfo(msgspec.Struct, rename="camel"):
    git_version: str


@dataclass(frozen=True, slots=True, order=True)
class ServerVersion:
    """The API server's version; compares by number."""

    major: int
    minor: int
    git_version: str

    def __str__(self) -> str:
        return self.git_version


async def server_version(client: Client) -> ServerVersion:
    """Ask the server for its version."""
    response = await client.call(Request("GET", "/version", label="version"))
    try:
        text = msgspec.json.decode(response.body, type=_VersionInfo).git_version
        found = re.match(r"v(\d+)\.(\d+)", text)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"/version is unreadable: {error}", request="GET /version") from error
    if found is None:
        raise ProtocolError(f"/version says {text!r}", request="GET /version")
    return ServerVersion(int(found[1]), int(found[2]), text)


async def require_supported_version(client: Client) -> ServerVersion:
    """Check that the server is one we support.

    Raises:
        ConfigurationError: it is older; the message names both versions.
    """
    version = await server_version(client)
    if (version.major, version.minor) < OLDEST_SUPPORTED:
        raise ConfigurationError(
            f"the API server is {version}; Kubernetes {OLDEST_SUPPORTED[0]}.{OLDEST_SUPPORTED[1]} or newer is needed"
        )
    return version


async def is_ready(client: Client) -> bool:
    """Whether `/readyz` says yes now."""
    try:
        await client.call(Request("GET", "/readyz", timeout=5.0, label="readyz"))
    except ApiError:
        return False
    return True
