"""Separate roles, and controllers added later, on real nodes started from the operator's own rendering."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from allotment_operator.services.kafka.kafka_python import KafkaPythonAdmin
from builders.kafka_broker import Machine, operator_login_at, true_world

SMALL = {"resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}, "jvm": {"options": ["-XX:TieredStopAtLevel=1"]}}


def separate(controllers: int) -> dict[str, Any]:
    control = {"name": "control", "roles": ["controller"], "replicas": controllers, **SMALL}
    data = {"name": "data", "roles": ["broker"], "replicas": 1, **SMALL}
    return {"pools": [control, data], "replication": {"factor": 1, "minInSync": 1}}


@pytest.mark.timeout(1800)  # four cold starts of the JVM on a busy machine
async def test_controllers_added_later_join_the_quorum_by_themselves(tmp_path: Path) -> None:
    world = true_world(**separate(1))
    machine = Machine(world, tmp_path, [("control", 0), ("data", 0), ("control", 1), ("control", 2)])
    login = operator_login_at(world, machine.ports["data", 0].replication)
    with contextlib.ExitStack() as nodes, contextlib.closing(KafkaPythonAdmin(timeout=120)) as admin:
        nodes.enter_context(machine.node("control", 0))
        nodes.enter_context(machine.node("data", 0))
        state = await admin.cluster(login)
        assert (state.brokers, state.controller, state.voters) == ((1000,), 0, (0,))

        world.edit(lambda spec: spec.update(separate(3)))
        for _ in range(2):
            world.round()
            world.run_pods()
        for ordinal in (1, 2):
            nodes.enter_context(machine.node("control", ordinal))

        async with asyncio.timeout(600):
            while (await admin.cluster(login)).voters != (0, 1, 2):  # noqa: ASYNC110 - brokers send no events
                await asyncio.sleep(0.5)
