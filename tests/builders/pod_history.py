"""The history of all pods of a test, from a watch of its own: what a `HistoryChecker` says of it."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from allotment_kube.client import Client
from allotment_kube.configuration import load_configuration
from allotment_kube.pods import Pod
from allotment_kube.reflector import Event, Reflector, Synced
from allotment_kube.resources import PODS
from builders.history_checker import Amounts, HistoryChecker, Limit


class PodHistory(HistoryChecker):
    """Watches pods in a thread of its own.

    Args:
        kubeconfig: an administrator's.
        prefix: of the namespaces whose pods count.
        rooms: what each node has.
        limits: of tenants, at every level.
        gang_size: pods in every gang.
    """

    def __init__(
        self, kubeconfig: Path, prefix: str, rooms: Mapping[str, Amounts], limits: Sequence[Limit], gang_size: int
    ) -> None:
        super().__init__(rooms, limits, gang_size)
        self._kubeconfig = kubeconfig
        self._prefix = prefix
        self._ready = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(300)

    def stop(self) -> None:
        """Stop watching."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(300)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._watch())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    async def _watch(self) -> None:
        self._over = asyncio.Event()
        async with Client.connect(load_configuration(self._kubeconfig)) as client:
            reflector = Reflector(client, PODS, self._hear, keep_objects=False)
            task = asyncio.create_task(reflector.run())
            await reflector.synced()
            self._ready.set()
            while not self._over.is_set():
                self.look_at_gangs(time.monotonic())
                await asyncio.sleep(0.5)
                if task.done():
                    task.result()
            task.cancel()
            await asyncio.wait({task})

    def _hear(self, event: Event[Pod]) -> None:
        if not isinstance(event, Synced) and event.key[0].startswith(self._prefix):
            self.take(event, time.monotonic())
