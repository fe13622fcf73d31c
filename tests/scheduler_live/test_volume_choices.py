"""What a volume's claim is told before its pod is bound."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from allotment_kube.patches import Patch
from allotment_kube.resources import Resource
from allotment_scheduler.core.objects.attachments import Attachments, Claim
from allotment_scheduler.shell.volumes import Choices


class Recorder:
    """A client that keeps what it is to patch."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def patch(
        self, _: Resource[Any], __: str, patch: Patch, *, namespace: str = "", subresource: str = ""
    ) -> None:
        assert (namespace, subresource) == ("a", "")
        self.bodies.append(msgspec.json.decode(patch.encode()))


@pytest.mark.parametrize("volume", ["disk", None])
async def test_a_claim_made_anew_under_the_same_name_is_not_told_the_old_ones_choice(volume: str | None) -> None:
    attachments = Attachments(claims={("a", "data"): Claim("a", "data", uid="first")})
    client = Recorder()

    await Choices(SimpleNamespace(attachments=attachments)).tell(client, ("a", "data"), "n", volume)  # type: ignore[arg-type] # all it reads

    (body,) = client.bodies
    assert body["metadata"]["uid"] == "first"
    assert body.get("spec") == ({"volumeName": "disk"} if volume else None)
