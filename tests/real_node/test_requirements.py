"""A machine that lacks something is told what, and which command brings it; nothing is installed on the quiet."""

import os
from pathlib import Path

import pytest

from allotment_local.cluster import LocalCluster
from allotment_local.errors import ExitCode, LocalClusterError
from allotment_local.real_node import requirements
from allotment_local.real_node.cgroups import CgroupTree
from allotment_local.real_node.fleet import Fleet
from allotment_local.real_node.images import recipes
from allotment_local.real_node.tools import ToolError, run


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program is found, and nobody is root."""
    monkeypatch.setattr(requirements, "search_path", lambda: str(tmp_path))
    monkeypatch.setattr(requirements, "CNI_FOLDERS", (tmp_path,))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_everything_missing_is_named_with_one_command_that_brings_it() -> None:
    with pytest.raises(LocalClusterError) as caught:
        requirements.check()

    assert "need root" in caught.value.message
    assert "The program runc is missing." in caught.value.message
    [command] = [line.strip() for line in caught.value.hint.splitlines() if "apt-get" in line]
    assert command.endswith(
        "conntrack containerd containernetworking-plugins iproute2 ipset iptables mount runc util-linux xfsprogs"
    )


def test_what_an_image_is_made_with_is_asked_for_before_anything_slow_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only where the image is not there yet; the programs of nodes take minutes to build."""
    monkeypatch.setenv("ALLOTMENT_CACHE", str(tmp_path / "cache"))
    fleet = Fleet(LocalCluster("bare", state=tmp_path / "state"))

    with pytest.raises(LocalClusterError) as caught:
        fleet.up(images=[recipes.kafka()])

    assert "The program debootstrap is missing." in caught.value.message
    assert "The program mvn is missing." in caught.value.message
    assert " maven " in caught.value.hint
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "environment", [{}, {"CI": "true"}, {"ALLOT_REAL_NODE": "1"}], ids=["nothing set", "only CI", "only asked for"]
)
def test_nothing_is_installed_outside_ci(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("CI", "ALLOT_REAL_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(requirements, "run", lambda *command, **_: pytest.fail(f"ran {command}"))

    assert requirements.main(["--install"]) == ExitCode.FAILED

    said = capsys.readouterr().err
    assert "--install works only where CI=true and ALLOT_REAL_NODE=1" in said
    assert "apt-get install" in said


def test_an_installation_that_fails_is_told_in_the_words_of_what_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def locked(*command: str, **_: object) -> str:
        raise ToolError(command, 100, "E: Could not get lock /var/lib/apt/lists/lock.")

    monkeypatch.setattr(requirements, "run", locked)
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("ALLOT_REAL_NODE", "1")

    assert requirements.main(["--install"]) == ExitCode.FAILED

    assert "Could not get lock" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["no-such-program-anywhere"], "no-such-program-anywhere: it cannot be run: No such file or directory"),
        (["sleep", "600"], "sleep 600: it did not end within 0.1 s"),
        (["sh", "-c", "echo broken >&2; exit 3"], "broken"),
    ],
    ids=["not there", "without end", "failed"],
)
def test_a_tool_that_does_not_do_its_work_is_an_error_that_names_it(command: list[str], says: str) -> None:
    with pytest.raises(ToolError, match=says):
        run(*command, timeout=0.1 if "600" in command else 300)


def test_missing_kernel_features_are_asked_for_by_module() -> None:
    lacking = [requirements.Lack("No overlay.", module="overlay"), requirements.Lack("No xfs.", module="xfs")]

    assert "modprobe --all overlay xfs" in requirements.cure(lacking)


def test_a_cgroup_root_of_version_1_gets_processors_memory_and_weight(tmp_path: Path) -> None:
    """Without the first two no process could join it."""
    for controller in ("cpu", "cpuset", "memory", "pids"):
        (tmp_path / controller).mkdir()
    for setting, value in (("cpuset.cpus", "0-3"), ("cpuset.mems", "0")):
        (tmp_path / "cpuset" / setting).write_text(value)
    tree = CgroupTree(tmp_path)
    # The kernel makes a group's files with the group; here they are made beforehand.
    (tmp_path / "cpuset/node").mkdir()
    for setting in ("cpuset.cpus", "cpuset.mems"):
        (tmp_path / "cpuset/node" / setting).touch()
    (tmp_path / "cpu/node").mkdir()
    (tmp_path / "cpu/node/cpu.shares").touch()

    tree.make("node")

    assert not tree.is_unified
    assert tree.missing_controllers() == []
    assert (tmp_path / "memory/node").is_dir()
    assert (tmp_path / "cpuset/node/cpuset.cpus").read_text() == "0-3"
    assert (tmp_path / "cpu/node/cpu.shares").read_text() == "8192"


def test_a_cgroup_root_of_version_2_hands_controllers_down(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    tree = CgroupTree(tmp_path)

    tree.make("node")

    assert tree.is_unified
    assert tree.missing_controllers() == []
    assert (tmp_path / "node/cgroup.subtree_control").read_text() == "+cpu +cpuset +memory +pids"
    assert (tmp_path / "node/cpu.weight").read_text() == "800"


def test_a_tree_of_cgroups_is_removed_children_first(tmp_path: Path) -> None:
    (tmp_path / "memory/node/kubepods/pod1/container").mkdir(parents=True)

    CgroupTree(tmp_path).remove("node")

    assert list((tmp_path / "memory").iterdir()) == []
