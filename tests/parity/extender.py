"""A scheduler extender that takes notes: which nodes kube-scheduler's own filters left for each pod.

kube-scheduler asks its extenders after its in-tree filters, and only if any node is left. This one writes down the node
names it is shown and then refuses them all, so that nothing is ever bound and every pod stays as it was.

The server runs on a thread of its own: kube-scheduler asks in its scheduling cycle, whatever the tests are doing.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import msgspec

_REFUSAL: Final = b'{"NodeNames":[],"FailedNodes":{},"FailedAndUnresolvableNodes":{},"Error":""}'


class _Metadata(msgspec.Struct):
    uid: str


class _Pod(msgspec.Struct):
    metadata: _Metadata


class _Arguments(msgspec.Struct):
    """`ExtenderArgs` of k8s.io/kube-scheduler/extender/v1, as sent to a `nodeCacheCapable` extender."""

    Pod: _Pod
    NodeNames: list[str] | None = None


class Extender:
    """Listens on loopback until closed."""

    def __init__(self) -> None:
        self.passed: dict[str, frozenset[str]] = {}
        """By pod uid: the nodes that passed the in-tree filters when the pod was last tried."""
        notes = self.passed

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked = msgspec.json.decode(body, type=_Arguments)
                notes[asked.Pod.metadata.uid] = frozenset(asked.NodeNames or ())
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(_REFUSAL)))
                self.end_headers()
                self.wfile.write(_REFUSAL)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="extender", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where kube-scheduler finds it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
