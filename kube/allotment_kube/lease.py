"""Leader election by a `coordination.k8s.io/v1` Lease: at most one process acts at a time.

A Lease is a record with a compare-and-swap (the resource version). Whoever replaced it last holds it, and must replace
it again before others may take it. Nobody's wall clock is trusted: a candidate starts a stopwatch when it *sees* the
record change, and the holder counts from *before* it sent its last good renewal, so the holder always believes its
lease to end earlier than any candidate does.

    holder      |send renew ........ renew deadline |   (requests still in flight) | lease ends
    candidate      |sees renewal ............................................. lease ends | + timeout | acts

Invariants:
- a write begins only before the renew deadline, takes at most `request_timeout`, and so ends within the lease;
- a new holder acts only after the old one's lease plus `request_timeout`, in which the server finishes or drops what
  it had accepted; a released lease needs no wait, because release waits for writes of unknown outcome. A missing
  record is treated like a held one (somebody may have deleted it), so ship an empty Lease to start without the wait;
- the identity is unique per process, so a restarted process never mistakes its predecessor's lease for its own;
- every answer is decided by the record that was read, never by what a failed write might have done.

What it cannot do: a process that is frozen between asking for leave and sending, for longer than the lease, may send
one late write. Writes therefore carry their own preconditions as well (a Binding its pod's uid).
"""

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from .client import Client
from .errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    DeniedError,
    GoneError,
    LeadershipLostError,
    NotFoundError,
    ProtocolError,
    RetryError,
)
from .models import Object
from .resources import LEASES
from .retries import NEVER_REPEAT

_logger = logging.getLogger(__name__)
_LEASES: Final = LEASES.untyped
_PASSING: Final = (RetryError, GoneError, ProtocolError, ConflictError, DeniedError)
"""Failures that say nothing about who holds the Lease: time alone decides. An API server that has just been started
forbids everything for a moment, and where its webhook for tokens is away it knows nobody."""


def boot_clock() -> float:
    """Seconds since boot, suspended time included, so that a laptop's sleep ends a lease; monotonic elsewhere."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def unique_identity(whose: str = "", rng: random.Random | None = None) -> str:
    """A name for this process that no other process, past or future, has.

    Args:
        whose: what it begins with, for people: the pod, say. Empty: the machine and the number of the process.
        rng: the source of what makes it unique.
    """
    rng = rng or random.SystemRandom()
    return f"{whose or f'{socket.gethostname()}_{os.getpid()}'}_{rng.getrandbits(64):016x}"


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Times of an election, in seconds."""

    duration: float = 15.0
    """How long a candidate waits after the last renewal it saw. A crash costs this long, plus `request_timeout`."""
    renew_deadline: float = 10.0
    """How long the holder writes after its last good renewal."""
    retry_period: float = 2.0
    """Time between renewals, and between a candidate's looks; jittered."""
    request_timeout: float = 3.0
    """The longest a write may take."""

    def __post_init__(self) -> None:
        if self.renew_deadline + self.request_timeout >= self.duration:
            raise ValueError("renew_deadline + request_timeout must be less than duration, or writes outlive the lease")
        if self.retry_period + self.request_timeout >= self.renew_deadline:
            raise ValueError(
                "retry_period + request_timeout must be less than renew_deadline, or one slow try loses it"
            )


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A record as a candidate saw it first."""

    holder: str
    version: str
    duration: float
    at: float


class _Write:
    """One write under a lease. No generator: there is one for every pod that starts."""

    __slots__ = ("_allowed", "_lease")

    def __init__(self, lease: "Lease") -> None:
        self._lease = lease
        self._allowed = 0.0

    def __enter__(self) -> float:
        self._allowed = self._lease._begin_write()  # noqa: SLF001 - the two are one
        return self._allowed

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._lease._broke_off(self._allowed)  # noqa: SLF001 - as above


class Lease:
    """One process's part in the election for one Lease."""

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        namespace: str,
        identity: str,
        settings: LeaseSettings = LeaseSettings(),
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: random.Random | None = None,
    ) -> None:
        self.identity = identity
        self.settings = settings
        # The lease's own requests are never repeated blindly: each decision needs a fresh look. And they wait behind
        # nothing: a crowd of slow writes must not cost us the right to write.
        self._client = client.patiently(retries=NEVER_REPEAT, timeout=settings.request_timeout, urgent=True)
        self._name = name
        self._namespace = namespace
        self._clock = clock
        self._wall_clock = wall_clock
        self._rng = rng or client.rng
        self._record: Object | None = None
        self._sighting: _Sighting | None = None
        self._free_at = ""
        self._unheld = False
        self._renewed_at: float | None = None
        self._may_act_at = 0.0
        self._quiet_at = 0.0

    # What others ask

    async def look(self) -> None:
        """Note whether the lease is free now: see `unheld`. Fails in silence, for it only saves time."""
        with contextlib.suppress(ApiError):
            record = await self._client.find(_LEASES, self._name, namespace=self._namespace)
            if record is not None and not (record.get("spec") or {}).get("holderIdentity"):
                self._free_at = record["metadata"]["resourceVersion"]

    @property
    def unheld(self) -> bool:
        """Whether nobody has held it between `look` and us: what was read after that, no predecessor has changed."""
        return self._unheld

    @property
    def is_leader(self) -> bool:
        """Whether a write may begin now."""
        return self._renewed_at is not None and self._may_act_at <= self._clock() < self.deadline()

    def deadline(self) -> float:
        """Time of `clock` from which on no write may begin; minus infinity if the lease is not held."""
        return float("-inf") if self._renewed_at is None else self._renewed_at + self.settings.renew_deadline

    def remaining(self) -> float:
        """Seconds until the deadline, 0 if it has passed."""
        return max(0.0, self.deadline() - self._clock()) if self.is_leader else 0.0

    def write(self) -> "_Write":
        """Leave for one write; yields the seconds it may take (a `Guard` for `Client.guarded`).

        Raises:
            LeadershipLostError: the lease is not held, or its renew deadline has passed.
        """
        return _Write(self)

    def _begin_write(self) -> float:
        if not self.is_leader:
            raise LeadershipLostError(f"{self.identity} does not hold the lease {self._name}")
        return self.settings.request_timeout

    def _broke_off(self, allowed: float) -> None:
        # It may still be under way in the server: nobody else may act before its time is over.
        self._quiet_at = max(self._quiet_at, self._clock() + allowed)

    # Holding it

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the lease, run `lead` while it is held, then release it.

        `lead` is cancelled when the lease is lost, and must then only clean up: its writes are refused.

        Raises:
            LeadershipLostError: the lease was lost; exit the process and start afresh.
        """
        try:
            await self._acquire()
            await self._lead(lead)
        finally:
            await self._release()

    async def _lead(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        leading = asyncio.create_task(lead(), name=f"lead {self._name}")
        renewing = asyncio.create_task(self._keep(), name=f"renew {self._name}")
        try:
            await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # The last writes of `lead` must be over before the lease is given away: renewal goes on until they are.
            await _finish(leading)
            lost = await _finish(renewing)
        if lost is not None:
            raise LeadershipLostError(f"the lease {self._name} was lost") from lost
        if not leading.cancelled():
            leading.result()

    async def _acquire(self) -> None:
        while True:
            try:
                if await self._try_acquire():
                    break
            except _PASSING as error:
                _logger.info("lease %s: %s", self._name, error)
            await self._pause()
        # A predecessor's last writes may be on their way; keep renewing while they run out.
        while (wait := self._may_act_at - self._clock()) > 0:
            await asyncio.sleep(min(wait, self.settings.retry_period))
            if self._clock() < self._may_act_at:
                await self._renew_once()
        _logger.info("lease %s is held by %s", self._name, self.identity)

    async def _try_acquire(self) -> bool:
        record = await self._client.find(_LEASES, self._name, namespace=self._namespace)
        now = self._clock()
        if record is None:
            return await self._write_first()
        spec = record.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        version = record["metadata"]["resourceVersion"]
        seen = self._sighting
        if seen is None or seen.version != version:
            duration = float(spec.get("leaseDurationSeconds") or self.settings.duration)
            # Our own write of unknown outcome is no new holder: the stopwatch on the one before goes on.
            self._sighting = seen = _Sighting(holder, version, duration, now)
            if holder != self.identity:
                self._may_act_at = now + duration + self.settings.request_timeout if holder else now
        if holder not in {"", self.identity} and now < seen.at + seen.duration:
            return False
        return await self._replace(record, taking_over=holder != self.identity)

    async def _write_first(self) -> bool:
        body = {
            "apiVersion": _LEASES.api_version,
            "kind": _LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._spec({}, taking_over=True),
        }
        sent_at = self._clock()
        try:
            self._record = await self._client.create(_LEASES, body, namespace=self._namespace)
        except AlreadyExistsError:
            return False
        # A missing record may have been deleted under its holder, who believes in it until its renewal fails.
        self._may_act_at = self._clock() + self.settings.duration + self.settings.request_timeout
        self._renewed_at = sent_at
        return True

    async def _replace(self, record: Object, *, taking_over: bool) -> bool:
        """Put our name on the record that was read; False if somebody was faster."""
        body = {**record, "spec": self._spec(record.get("spec") or {}, taking_over=taking_over)}
        sent_at = self._clock()
        try:
            self._record = await self._client.replace(_LEASES, body)
        except (ConflictError, NotFoundError):
            self._record = None
            return False
        self._renewed_at = sent_at
        if taking_over:
            self._unheld = record["metadata"]["resourceVersion"] == self._free_at
        return True

    def _spec(self, previous: Object, *, taking_over: bool) -> Object:
        now = self._wall_clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            **previous,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(-(-self.settings.duration // 1)),
            "renewTime": now,
        }
        if taking_over:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(previous.get("leaseTransitions") or 0) + 1
        return spec

    async def _keep(self) -> None:
        """Renew until cancelled, or until the lease is lost."""
        while True:
            # Waking at the deadline matters when renewals hang: the work is then cancelled, not only refused.
            await asyncio.sleep(min(self._period(), max(0.0, self.deadline() - self._clock())))
            await self._renew_once()

    async def _renew_once(self) -> None:
        left = self.deadline() - self._clock()
        if left <= 0:
            raise LeadershipLostError(f"no renewal of {self._name} within {self.settings.renew_deadline:g} s")
        try:
            async with asyncio.timeout(left):
                await self._renew()
        except TimeoutError:
            raise LeadershipLostError(f"no renewal of {self._name} within {self.settings.renew_deadline:g} s") from None
        except _PASSING as error:
            _logger.warning("lease %s: renewal failed: %s", self._name, error)
            self._record = None  # what became of it is read before the next try

    async def _renew(self) -> None:
        if self._record is not None and await self._replace(self._record, taking_over=False):
            return
        # The record has changed or is unknown; a mere label set by an administrator costs nothing but this look.
        record = await self._client.find(_LEASES, self._name, namespace=self._namespace)
        if record is None:
            raise LeadershipLostError(f"the lease {self._name} was deleted")
        holder = (record.get("spec") or {}).get("holderIdentity")
        if holder != self.identity:
            raise LeadershipLostError(f"the lease {self._name} is held by {holder!r}")
        await self._replace(record, taking_over=False)

    async def _release(self) -> None:
        """Give the lease away, unless it is lost already; candidates then need not wait."""
        record, self._record = self._record, None
        held = self.deadline() > self._clock()
        self._renewed_at = None
        if not held or record is None:
            return
        # Our own stragglers and, if we never got to act, our predecessor's.
        await asyncio.sleep(max(0.0, self._quiet_at - self._clock(), self._may_act_at - self._clock()))
        with contextlib.suppress(ApiError):  # then it runs out by itself
            try:
                await self._give_away(record)
            except ConflictError:  # by the last renewal, cancelled after it was sent, or by somebody's label
                found = await self._client.find(_LEASES, self._name, namespace=self._namespace)
                if found is not None and (found.get("spec") or {}).get("holderIdentity") == self.identity:
                    await self._give_away(found)

    async def _give_away(self, record: Object) -> None:
        spec = {**record["spec"], "holderIdentity": "", "renewTime": None, "acquireTime": None}
        await self._client.replace(_LEASES, {**record, "spec": spec})
        _logger.info("lease %s is released by %s", self._name, self.identity)

    async def _pause(self) -> None:
        await asyncio.sleep(self._period())

    def _period(self) -> float:
        return self.settings.retry_period * (0.8 + 0.4 * self._rng.random())


async def _finish(task: asyncio.Task[None]) -> BaseException | None:
    """Cancel a task and wait for its end; returns what it failed with."""
    task.cancel()
    await asyncio.wait({task})
    return None if task.cancelled() else task.exception()
