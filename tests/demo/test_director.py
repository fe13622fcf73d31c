"""The director asks again only where it is refused: no other fault is hidden until an act is late."""

from pathlib import Path

import pytest

from allotment_cli.demo.acts import Act, Apply, Verdict
from allotment_cli.demo.director import Director
from allotment_cli.demo.members import PLATFORM_ADMIN
from allotment_cli.demo.stage import Address
from allotment_cli.demo.witness import Witness
from allotment_kube.client import Client
from allotment_kube.configuration import Configuration

NOWHERE = Address("http://127.0.0.1:1", "user", "token")
"""A stand-in controller that nobody plays."""


async def test_a_fault_that_is_no_refusal_ends_the_play(tmp_path: Path) -> None:
    configuration = Configuration("http://127.0.0.1:1")
    step = Apply(PLATFORM_ADMIN, "missing.yaml")
    act = Act("act", "Something is applied.", (step,), lambda _: Verdict(done=False, said="never"), seconds=600)
    async with Client.connect(configuration) as client:
        director = Director(Witness(client), configuration, tmp_path, NOWHERE, show=lambda *_: None)
        with pytest.RaisesGroup(FileNotFoundError):
            await director.play([act])
