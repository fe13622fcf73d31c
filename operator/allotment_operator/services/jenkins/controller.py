"""The Jenkins controller's remote access API, as far as a pool of agents needs it.

Every call is idempotent: registering a node that exists, or removing one that does not, is success. Requests carry an
API token, which needs no crumb, and ask for English, because the reasons for waiting are translated.

Source: Jenkins core, ``ComputerSet.doCreateItem`` (XML form), ``Computer.doDoDelete``, ``Computer.doToggleOffline``,
``SlaveComputer`` (``jenkins-agent.jnlp``). Node names are ours and are path-safe DNS labels.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote
from xml.sax.saxutils import escape

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.services.jenkins.snapshot import (
    HELD_TREE,
    MOST_LISTED,
    NODES_OVERLAP,
    NODES_PAGE,
    QUEUE_PAGE,
    Node,
    QueuedBuild,
    Snapshot,
    nodes_tree,
    queue_tree,
    read_held,
    read_nodes,
    read_queue,
)

TIMEOUT_SECONDS = 10.0
LARGEST_ANSWER = 4 << 20
"""Bytes; some 1,600 for each build of a page of the queue, and 4,000 for each node of a page."""
LARGEST_NODES = 16 << 20
"""Bytes of all pages of nodes together: 20,000 nodes with 800 each."""
REMOTE_FOLDER = "/home/jenkins/agent"
HELD = "Allotment: takes no further build"
"""The cause that a held node shows; it must not look like a lost connection."""

_FIRST_ARGUMENT = re.compile(rb"<argument>\s*([0-9a-fA-F]{16,128})\s*</argument>")


@dataclass(frozen=True, slots=True)
class NewNode:
    """A node to be registered: one executor, only for builds that ask for its labels."""

    name: str
    labels: Sequence[str]
    description: str
    web_socket: bool

    def xml(self) -> str:
        """Return the node as the controller's XML has it (alias ``slave`` of ``hudson.slaves.DumbSlave``)."""
        return (
            f"<slave><name>{escape(self.name)}</name><description>{escape(self.description)}</description>"
            f"<remoteFS>{REMOTE_FOLDER}</remoteFS><numExecutors>1</numExecutors><mode>EXCLUSIVE</mode>"
            '<retentionStrategy class="hudson.slaves.RetentionStrategy$Always"/>'
            '<launcher class="hudson.slaves.JNLPLauncher">'
            f"<webSocket>{str(self.web_socket).lower()}</webSocket></launcher>"
            f"<label>{escape(' '.join(self.labels))}</label></slave>"
        )


class Controller(Protocol):
    """A Jenkins controller.

    Raises, in every call:
        ServiceUnavailableError: it cannot be reached, or fails.
        ServiceRefusedError: it refuses the credentials or the request.
    """

    async def snapshot(self) -> Snapshot:
        """Return its queue and its nodes."""

    async def register(self, node: NewNode) -> str:
        """Make sure that the node exists; return the secret that its agent connects with."""

    async def hold(self, name: str) -> None:
        """Make sure that the node takes no further build; a build that runs goes on."""

    async def remove(self, name: str) -> None:
        """Make sure that the node does not exist."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a controller is and how to speak to it.

    Attributes:
        url: as its owner wrote it.
        addresses: IP addresses that were found to be its own, and may be called; no other ever is.
        ca: PEM; empty for the public authorities.
    """

    url: str
    addresses: Sequence[str]
    username: str
    token: str
    ca: str = ""


class _Pinned(AbstractResolver):
    """Answers with what was found and judged before: a name that changes its mind leads nowhere else."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


class HttpController:
    """A controller over HTTP; an async context, one session for its calls."""

    def __init__(self, address: Address) -> None:
        self._root = address.url.rstrip("/")
        context: ssl.SSLContext | bool = True
        if address.ca and self._root.startswith("https:"):
            context = ssl.create_default_context(cadata=address.ca)
        self._session = aiohttp.ClientSession(
            headers={
                "Accept-Language": "en",
                "Authorization": aiohttp.encode_basic_auth(address.username, address.token),
            },
            connector=aiohttp.TCPConnector(
                ssl=context, limit=8, resolver=_Pinned(address.addresses), use_dns_cache=False
            ),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def snapshot(self) -> Snapshot:
        """Return its queue and its nodes."""
        builds, nodes = await asyncio.gather(self._queue(), self._nodes())
        return Snapshot(builds, nodes)

    async def register(self, node: NewNode) -> str:
        """Make sure that the node exists; return the secret that its agent connects with."""
        exists, _ = await self._call(
            "GET", f"/computer/{node.name}/api/json", params={"tree": HELD_TREE}, accept=(404,)
        )
        if exists == 404:
            await self._call(
                "POST",
                "/computer/createItem",
                params={"name": node.name},
                data=node.xml().encode(),
                headers={"Content-Type": "application/xml"},
            )
        _, descriptor = await self._call("GET", f"/computer/{node.name}/jenkins-agent.jnlp")
        return _secret(descriptor)

    async def hold(self, name: str) -> None:
        """Make sure that the node takes no further build; a build that runs goes on."""
        # The call toggles, so it is made only after a look; two operators never work at once, nor two lanes on a node.
        path = f"/computer/{quote(name, safe='')}"
        code, node = await self._call("GET", f"{path}/api/json", params={"tree": HELD_TREE}, accept=(404,))
        if code != 404 and not read_held(node):
            await self._call("POST", f"{path}/toggleOffline", params={"offlineMessage": HELD})

    async def remove(self, name: str) -> None:
        """Make sure that the node does not exist."""
        await self._call("POST", f"/computer/{quote(name, safe='')}/doDelete", accept=(404,))

    async def _queue(self) -> tuple[QueuedBuild, ...]:
        """Read the queue by pages; a build that moves between two is counted once, or in the next round."""
        builds: dict[int, QueuedBuild] = {}
        for start in range(0, MOST_LISTED, QUEUE_PAGE):
            _, body = await self._call("GET", "/queue/api/json", params={"tree": queue_tree(start)})
            page = read_queue(body)
            builds.update((each.id, each) for each in page.builds)
            if not page.full:
                break
        return tuple(builds.values())

    async def _nodes(self) -> dict[str, Node]:
        """Read the nodes by pages, each beginning within the one before it.

        A node that is not seen counts as removed, and its agent goes, with its build. Jenkins lists them by name
        (``Jenkins.getComputers``), so what is removed meanwhile moves the others forward, over the edge of a page.
        """
        nodes: dict[str, Node] = {}
        start, step, size = 0, NODES_PAGE - NODES_OVERLAP, 0
        for _ in range(2 * MOST_LISTED // step):
            _, body = await self._call("GET", "/computer/api/json", params={"tree": nodes_tree(start)})
            size += len(body)
            if start >= MOST_LISTED or size > LARGEST_NODES:
                most = f"more than {MOST_LISTED} nodes, or {LARGEST_NODES >> 20} MiB of them"
                raise ServiceRefusedError(f"{self._root} has {most}")
            page = read_nodes(body)
            if start and next(iter(page.nodes), "") not in nodes:
                start = max(0, start - step)
                continue
            nodes.update(page.nodes)
            if not page.full:
                return nodes
            start += step
        raise ServiceUnavailableError(f"{self._root}: its nodes change faster than they can be read")

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        accept: tuple[int, ...] = (),
    ) -> tuple[int, bytes]:
        try:
            async with self._session.request(
                method, self._root + path, params=params, data=data, headers=headers, allow_redirects=False
            ) as response:
                body = await _read(response)
                code = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServiceUnavailableError(f"{self._root} does not answer: {type(error).__name__}") from None
        if 300 <= code < 400 and method == "GET":
            raise ServiceRefusedError(
                f"{self._root} redirects GET {path} ({code}), and no redirect is followed: write the address that it "
                "leads to into spec.jenkins.url"
            )
        if code < 400 or code in accept:
            return code, body
        if code in (401, 403):
            raise ServiceRefusedError(
                f"{self._root} refused {method} {path} ({code}): check the credentials Secret; its user needs "
                "Overall/Read, Agent/Create, Agent/Connect, Agent/Delete and Agent/Disconnect"
            )
        if code >= 500:
            raise ServiceUnavailableError(f"{self._root} failed at {method} {path} ({code})")
        raise ServiceRefusedError(f"{self._root} refused {method} {path} ({code})")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read a body of bounded size: the address is a tenant's, and so is whatever answers there."""
    chunks, size = [], 0
    async for chunk in response.content.iter_chunked(65_536):
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise ServiceRefusedError(f"{response.url.path} answered more than {LARGEST_ANSWER >> 20} MiB")
    return b"".join(chunks)


def _secret(descriptor: bytes) -> str:
    """Read the secret out of an agent's launch descriptor: its first argument, in hexadecimal.

    By a pattern and not by an XML parser, because the document is a tenant's and may be built to exhaust one.
    """
    argument = _FIRST_ARGUMENT.search(descriptor)
    if argument is None:
        raise ServiceRefusedError("the controller's launch descriptor holds no secret: the user lacks Agent/Connect")
    return argument[1].decode()
