"""A few plain requests to the API server: what bringing a cluster up needs, and no more.

Synchronous on purpose: starting processes and waiting for them is a sequence, and a thousand node objects go out over a
handful of threads. Everything else in the project speaks through allotment_kube.
"""

import base64
import http.client
import json
import ssl
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from allotment_local.errors import LocalClusterError

_NOT_NOW: Final = frozenset({429, 500, 502, 503, 504})
"""Statuses of an API server that is starting, or drowning."""


class ApiError(LocalClusterError):
    """The API server refused a request.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class UnansweredError(LocalClusterError):
    """The API server gave no answer: it is not there, or not in time."""


class Connection:
    """One keep-alive connection as the user of a kubeconfig. Not for several threads at once."""

    def __init__(self, kubeconfig: Path, *, timeout: float = 30.0) -> None:
        content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        context = ssl.create_default_context(cadata=_decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as file:  # ssl loads client certificates from files only; mode 0600
            file.write(_decode(user["client-certificate-data"]) + _decode(user["client-key-data"]))
            file.flush()
            context.load_cert_chain(file.name)
        server = urllib.parse.urlsplit(cluster["server"])
        self._http = http.client.HTTPSConnection(server.hostname or "", server.port, timeout=timeout, context=context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def is_ready(self) -> bool:
        """Whether /readyz says so; False also while nothing listens."""
        try:
            status, _ = self._send("GET", "/readyz", None, {})
        except (OSError, http.client.HTTPException):
            self._http.close()
            return False
        return status == http.HTTPStatus.OK

    def holds(self, condition: Callable[["Connection"], bool]) -> bool:
        """Whether a condition holds; False where the API server gives no answer, or none now: it may a moment later."""
        try:
            return condition(self)
        except UnansweredError:
            return False
        except ApiError as error:
            if error.status in _NOT_NOW:
                return False
            raise

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """GET a JSON object."""
        return self._request("GET", path, None, "application/json")

    def post(self, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Create an object."""
        return self._request("POST", path, body, "application/json")

    def apply(self, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Apply an object on the server's side as `allot-local`, taking over contested fields."""
        path = f"{path}?fieldManager=allot-local&force=true"
        return self._request("PATCH", path, body, "application/apply-patch+yaml")

    def delete(self, path: str) -> None:
        """Delete an object; one that is gone already is fine."""
        try:
            self._request("DELETE", path, None, "application/json")
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, content_type: str) -> Any:  # noqa: ANN401 - JSON
        encoded = None if body is None else json.dumps(body).encode()
        try:
            status, answer = self._send(method, path, encoded, {"Content-Type": content_type})
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            raise UnansweredError(
                f"{method} {path}: the API server gave no answer ({error!r}).",
                hint="A machine that is very busy may need another try.",
            ) from error
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(f"{method} {path}: {_message(answer)}", status=status)
        return json.loads(answer)

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        self._http.request(method, path, body=body, headers={"Accept": "application/json", **headers})
        response = self._http.getresponse()
        return response.status, response.read()


def comes_to_hold(
    kubeconfig: Path,
    condition: Callable[[Connection], bool],
    *,
    seconds: float,
    check: Callable[[], None],
    pause: float = 0.1,
    timeout: float = 30.0,
) -> bool:
    """Ask again and again whether a condition holds; False when the time is over.

    Args:
        kubeconfig: an administrator's.
        condition: asked of the API server.
        seconds: how long to ask.
        check: raises when there is no use in waiting.
        pause: seconds between two questions.
        timeout: seconds for one answer.
    """
    end = time.monotonic() + seconds
    with Connection(kubeconfig, timeout=timeout) as connection:
        check()
        while not connection.holds(condition):
            check()
            if time.monotonic() > end:
                return False
            time.sleep(pause)
    return True


def _decode(text: str) -> bytes:
    return base64.b64decode(text)


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace")[:500]
