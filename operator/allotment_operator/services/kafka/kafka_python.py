"""The administration port over Kafka's own protocol, by the library kafka-python: no JVM, no exec.

How it thinks: a call opens a client with the operator's certificate, asks, and closes it. Calls are rare (a few a
minute per cluster), so nothing is worth keeping open and nothing can go stale. The library blocks, so calls run in
threads of their own. Whoever waits for one waits for a bounded time, and a cluster gets few of them at once: what
answers there may be anything, since a tenant chooses the image.

Errors are Kafka's own, sorted by what to do next: those it calls retriable, and every failure to connect, mean the
service is unavailable; all others are refusals. Quotas are asked for by the library's generated messages, since its
admin client has no method for them.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from kafka import errors
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from kafka.protocol.admin.client_quotas import AlterClientQuotasRequest, DescribeClientQuotasRequest

from allotment_operator.kind import ServiceRefusedError, ServiceUnavailableError
from allotment_operator.services.kafka.admin import ClusterState, Login, Rule, TopicState, UserState
from allotment_operator.services.kafka.login import log_in
from allotment_operator.services.kafka.tls_context import client_context

T = TypeVar("T")

THREADS: Final = 32
THREADS_OF_A_CLUSTER: Final = 2
TIMEOUT: Final = 10.0
"""Seconds for a login, and for each request."""
_LONGEST_CALL: Final = 3
"""Timeouts that a caller waits for a call of several requests, its turn included."""
_LONGEST_ANSWER: Final = 8 << 20
"""Bytes; tens of thousands of partitions. The library makes room for as much as an answer announces."""
SCRAM_ITERATIONS: Final = 8192

_EXACT_NAME: Final = 0
_UNAVAILABLE: Final = (
    errors.KafkaConnectionError,
    errors.KafkaTimeoutError,
    errors.RetriableError,
    ConnectionError,
    TimeoutError,
)
_NONSENSE: Final = (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading words of another protocol comes to, in the library or here: a tenant chooses the image."""


class KafkaPythonAdmin:
    """Administration of any cluster that can be reached over the network.

    Args:
        timeout: seconds that a login, and each request, may take.
    """

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        # Every failure is raised with its words; the library tells each attempt besides, as an error.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kafka-admin")
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def close(self) -> None:
        """End the threads; calls under way are left to their timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def cluster(self, login: Login) -> ClusterState:
        """Describe brokers, quorum and partitions."""
        return await self._run(login, _describe_cluster)

    async def check(self, login: Login) -> None:
        """Log in as any client would."""
        await self._in_thread(login, lambda: log_in(login, timeout=self._timeout))

    async def topic(self, login: Login, name: str) -> TopicState | None:
        """Describe a topic; None where there is none."""
        return await self._run(login, lambda client: _describe_topic(client, name))

    async def make_topic(
        self, login: Login, name: str, *, partitions: int, replicas: int, config: Mapping[str, str]
    ) -> None:
        """Make a topic; one that is there already stays as it is."""
        options = {"num_partitions": partitions, "replication_factor": replicas, "configs": dict(config)}

        def make(client: Any) -> None:  # noqa: ANN401 - the library publishes no types
            try:
                client.create_topics({name: options})
            except errors.TopicAlreadyExistsError:
                return

        await self._run(login, make)

    async def grow_topic(self, login: Login, name: str, *, partitions: int) -> None:
        """Give a topic this many partitions."""
        await self._run(login, lambda client: client.create_partitions({name: partitions}))

    async def configure_topic(self, login: Login, name: str, *, config: Mapping[str, str | None]) -> None:
        """Set these of a topic's settings; None takes one back to its default."""
        changes = {key: ("DELETE", None) if value is None else ("SET", value) for key, value in config.items()}
        resource = ConfigResource(ConfigResourceType.TOPIC, name, changes)

        def configure(client: Any) -> None:  # noqa: ANN401 - the library publishes no types
            answer = client.alter_configs([resource], raise_on_unknown=False)
            _refuse_unless_ok(answer)

        await self._run(login, configure)

    async def drop_topic(self, login: Login, name: str) -> None:
        """Delete a topic with its data; none there is as good."""

        def drop(client: Any) -> None:  # noqa: ANN401 - the library publishes no types
            try:
                client.delete_topics([name])
            except errors.UnknownTopicOrPartitionError:
                return

        await self._run(login, drop)

    async def user(self, login: Login, name: str) -> UserState:
        """Describe a user."""
        return await self._run(login, lambda client: _describe_user(client, name))

    async def set_password(self, login: Login, name: str, password: str | None) -> None:
        """Give a user this password for SCRAM-SHA-512; None takes it away."""
        mechanism = ScramMechanism.SCRAM_SHA_512

        def alter(client: Any) -> None:  # noqa: ANN401 - the library publishes no types
            if password is None:
                if not _has_password(client, name):
                    return
                change: Any = UserScramCredentialDeletion(name, mechanism)
            else:
                change = UserScramCredentialUpsertion(name, mechanism, password, iterations=SCRAM_ITERATIONS)
            refused = {user: text for user, text in client.alter_user_scram_credentials([change]).items() if text}
            if refused:
                raise ServiceRefusedError(f"the password of user {name} was refused: {refused[name]}")

        await self._run(login, alter)

    async def allow(self, login: Login, name: str, *, add: frozenset[Rule], remove: frozenset[Rule]) -> None:
        """Add and remove rules of access of a user: first the new ones, so that a change never takes a right away."""

        def alter(client: Any) -> None:  # noqa: ANN401 - the library publishes no types
            if add:
                failed = client.create_acls([_acl(name, rule) for rule in sorted(add)])["failed"]
                if failed:
                    raise ServiceRefusedError(f"{len(failed)} rules of user {name} were refused: {failed[0].__name__}")
            if remove:
                answers = client.delete_acls([_acl_filter(name, rule) for rule in sorted(remove)])
                wrong = [error for _, _, error in answers if error is not errors.NoError]
                if wrong:
                    raise ServiceRefusedError(f"rules of user {name} could not be removed: {wrong[0].__name__}")

        await self._run(login, alter)

    async def set_quotas(self, login: Login, name: str, quotas: Mapping[str, float | None]) -> None:
        """Set these of a user's quotas; None takes one away."""
        await self._run(login, lambda client: _alter_quotas(client, name, quotas))

    async def _run(self, login: Login, call: Callable[[Any], T]) -> T:
        return await self._in_thread(login, lambda: _with_client(login, call, self._timeout))

    async def _in_thread(self, login: Login, call: Callable[[], T]) -> T:
        longest = _LONGEST_CALL * self._timeout
        host, _, _ = login.bootstrap.rpartition(":")  # whichever of its listeners is asked
        places = self._places.setdefault(host, asyncio.Semaphore(THREADS_OF_A_CLUSTER))
        try:
            async with asyncio.timeout(longest):
                await places.acquire()
                return await asyncio.wrap_future(self._submit(call, places))
        except TimeoutError as error:
            raise ServiceUnavailableError(f"Kafka at {login.bootstrap} does not answer within {longest:g} s") from error

    def _submit(self, call: Callable[[], T], places: asyncio.Semaphore) -> Future[T]:
        """Start a call that gives its place back when its thread is free again, not when nobody waits any more."""
        loop = asyncio.get_running_loop()

        def over(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the program has ended meanwhile
                loop.call_soon_threadsafe(places.release)

        work = self._threads.submit(call)
        work.add_done_callback(over)
        return work


class _Client(KafkaAdminClient):  # type: ignore[misc] # the library publishes no types
    """The library's client, which leaves its thread and its sockets behind when nobody answers at first."""

    def __init__(self, **configs: Any) -> None:  # noqa: ANN401 - the library's own settings
        self._closed = False
        try:
            super().__init__(**configs)
        except BaseException:
            self.close()
            raise


def _with_client(login: Login, call: Callable[[Any], T], timeout: float) -> T:
    """Run a call with a client of its own, and sort what goes wrong."""
    milliseconds = int(timeout * 1000)
    # The library repeats a connection that is refused until its time is up, and forgets to close it.
    log_in(login, timeout=timeout)
    try:
        client = _Client(
            bootstrap_servers=[login.bootstrap],
            client_id="allotment-operator",
            request_timeout_ms=milliseconds,
            receive_message_max_bytes=_LONGEST_ANSWER,
            bootstrap_timeout_ms=milliseconds,
            security_protocol="SSL",
            ssl_context=client_context(login),
        )
        try:
            return call(client)
        finally:
            client.close()
    except _UNAVAILABLE as error:
        raise ServiceUnavailableError(f"Kafka at {login.bootstrap} does not answer: {_words(error)}") from error
    except errors.KafkaError as error:
        raise ServiceRefusedError(f"Kafka at {login.bootstrap} refused: {_words(error)}") from error
    except _NONSENSE as error:
        raise ServiceUnavailableError(
            f"Kafka at {login.bootstrap} does not answer as Kafka: {_words(error)}"
        ) from error


def _words(error: BaseException) -> str:
    name = type(error).__name__
    text = str(error)
    return text[:500] if name in text else f"{name} {text}"[:500].strip()


def _describe_cluster(client: Any) -> ClusterState:  # noqa: ANN401 - the library publishes no types
    described = client.describe_cluster()
    brokers = tuple(sorted(each["broker_id"] for each in described["brokers"] if not each.get("is_fenced")))
    quorum = client.describe_metadata_quorum()["topics"][0]["partitions"][0]
    lacking, offline = [], []
    for topic in client.describe_topics():
        for partition in topic["partitions"]:
            name = f"{topic['name']}-{partition['partition_index']}"
            if len(partition["isr_nodes"]) < len(partition["replica_nodes"]):
                lacking.append(name)
            if partition["leader_id"] < 0:
                offline.append(name)
    return ClusterState(
        brokers=brokers,
        controller=quorum["leader_id"] if quorum["leader_id"] >= 0 else None,
        voters=tuple(sorted(each["replica_id"] for each in quorum["current_voters"])),
        under_replicated=tuple(sorted(lacking)),
        offline=tuple(sorted(offline)),
    )


def _describe_topic(client: Any, name: str) -> TopicState | None:  # noqa: ANN401 - the library publishes no types
    topic = client.describe_topics([name])[0]
    error = errors.for_code(topic["error_code"])
    if error is errors.UnknownTopicOrPartitionError:
        return None
    if error is not errors.NoError:
        raise error(f"describing topic {name}")
    described = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="modified")
    (entries,) = (found for kind in described.values() for found in kind.values())
    own = {
        key: str(entry["value"])
        for key, entry in entries.items()
        if "TOPIC" in str(entry.get("config_source", "")).upper()
    }
    partitions = topic["partitions"]
    return TopicState(len(partitions), len(partitions[0]["replica_nodes"]) if partitions else 0, own)


def _describe_user(client: Any, name: str) -> UserState:  # noqa: ANN401 - the library publishes no types
    everything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    mine = ACLFilter(f"User:{name}", None, ACLOperation.ANY, ACLPermissionType.ANY, everything)
    found, _ = client.describe_acls(mine)
    return UserState(_has_password(client, name), frozenset(map(_rule, found)), _quotas(client, name))


def _has_password(client: Any, name: str) -> bool:  # noqa: ANN401 - the library publishes no types
    described = client.describe_user_scram_credentials([name]).get(name) or {"credential_infos": []}
    return any(each["mechanism"] is ScramMechanism.SCRAM_SHA_512 for each in described["credential_infos"])


def _quotas(client: Any, name: str) -> dict[str, float]:  # noqa: ANN401 - the library publishes no types
    request = DescribeClientQuotasRequest(components=[("user", _EXACT_NAME, name)], strict=True)
    answer = client._manager.run(client._manager.send, request)  # noqa: SLF001 - no public way to send a message
    error = errors.for_code(answer.error_code)
    if error is not errors.NoError:
        raise error(answer.error_message or "")
    return {value.key: value.value for entry in answer.entries or () for value in entry.values}


def _alter_quotas(client: Any, name: str, quotas: Mapping[str, float | None]) -> None:  # noqa: ANN401 - as above
    operations = [(key, value or 0.0, value is None) for key, value in sorted(quotas.items())]
    request = AlterClientQuotasRequest(entries=[([("user", name)], operations)], validate_only=False)
    answer = client._manager.run(client._manager.send, request)  # noqa: SLF001 - no public way to send a message
    for entry in answer.entries:
        error = errors.for_code(entry.error_code)
        if error is not errors.NoError:
            raise error(entry.error_message or f"quotas of user {name}")


def _acl(user: str, rule: Rule) -> ACL:
    pattern = ResourcePattern(ResourceType[rule.resource], rule.name, ACLResourcePatternType[rule.pattern])
    return ACL(f"User:{user}", rule.host, ACLOperation[rule.operation], ACLPermissionType[rule.permission], pattern)


def _acl_filter(user: str, rule: Rule) -> ACLFilter:
    pattern = ResourcePatternFilter(ResourceType[rule.resource], rule.name, ACLResourcePatternType[rule.pattern])
    return ACLFilter(
        f"User:{user}", rule.host, ACLOperation[rule.operation], ACLPermissionType[rule.permission], pattern
    )


def _rule(acl: Any) -> Rule:  # noqa: ANN401 - the library publishes no types
    pattern = acl.resource_pattern
    return Rule(
        pattern.resource_type.name,
        pattern.resource_name,
        pattern.pattern_type.name,
        acl.operation.name,
        acl.permission_type.name,
        acl.host,
    )


def _refuse_unless_ok(answer: Mapping[str, Mapping[str, Any]]) -> None:
    for name, result in _results(answer):
        if result not in (None, "OK") and result is not errors.NoError:
            raise ServiceRefusedError(f"the settings of topic {name} were refused: {result}"[:500])


def _results(answer: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, Any]]:
    return ((name, result) for kind in answer.values() for name, result in kind.items())
