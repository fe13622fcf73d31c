"""Folders, names, command lines, audit rules and diagnoses: what follows from settings alone."""

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from allotment_local import audit, components, diagnosis
from allotment_local.errors import InvalidInputError, LocalClusterError
from allotment_local.layout import Layout, module_source, valid_name
from allotment_local.specification import COMPONENTS, Ports, Specification
from allotment_local.stages import stages


def specification(folder: Path) -> Specification:
    return Specification(
        name="x",
        folder=folder,
        ports=Ports(1, 2, 3, 4, 5),
        binaries={component: ("/bin/all", component) for component in (*COMPONENTS, "kubectl")},
        with_scheduler=True,
        extra_flags={"kwok": ("--v=DEBUG",)},
    )


@pytest.mark.parametrize(
    ("environment", "want_cache", "want_state"),
    [
        ({"HOME": "/h"}, "/h/.cache/allotment", "/h/.local/state/allotment"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c", "XDG_STATE_HOME": "/s"}, "/c/allotment", "/s/allotment"),
        ({"HOME": "/h", "ALLOTMENT_CACHE": "/c", "ALLOTMENT_STATE": "/s", "XDG_CACHE_HOME": "/x"}, "/c", "/s"),
    ],
)
def test_folders_follow_the_environment(environment: dict[str, str], want_cache: str, want_state: str) -> None:
    layout = Layout.from_environment(environment)

    assert (str(layout.cache), str(layout.state)) == (want_cache, want_state)


@pytest.mark.parametrize("name", ["", "Team", "a_b", "-a", "a-", "../x", "a" * 41])
def test_a_name_that_could_not_be_a_folder_and_a_host_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot name a cluster"):
        valid_name(name)


@pytest.mark.parametrize("module", ["controlplane", "helm"])
def test_the_go_modules_are_found_in_a_checkout(module: str) -> None:
    assert (module_source(module) / "go.sum").is_file()


def test_a_specification_survives_the_disk(tmp_path: Path) -> None:
    spec = specification(tmp_path).merged(Path("/h/.kube/config"), "work")
    spec.save()

    assert Specification.load(tmp_path) == spec


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: "{", id="half of it"),
        pytest.param(lambda _: "[]", id="something else"),
        pytest.param(lambda content: json.dumps({**content, "later": 1}), id="a field of a newer version"),
        pytest.param(lambda content: json.dumps({**content, "ports": {}}), id="without fields of an older one"),
        pytest.param(lambda content: json.dumps({"name": content["name"]}), id="hardly a field"),
    ],
)
def test_a_specification_that_is_damaged_or_of_another_version_says_how_to_get_rid_of_it(
    change: Callable[[dict[str, Any]], str], tmp_path: Path
) -> None:
    specification(tmp_path).save()
    file = tmp_path / "cluster.json"
    file.write_text(change(json.loads(file.read_text())))

    with pytest.raises(LocalClusterError, match=f"allot local down --name {tmp_path.name}"):
        Specification.load(tmp_path)


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_component_skips_verification_or_listens_beyond_loopback(tmp_path: Path, component: str) -> None:
    line = components.command(specification(tmp_path), component)

    assert not [flag for flag in line if "insecure" in flag or "0.0.0.0" in flag or "http://" in flag]
    assert line[:2] == ("/bin/all", component)


def test_only_certificates_open_the_api_server(tmp_path: Path) -> None:
    line = components.command(specification(tmp_path), "kube-apiserver")

    assert "--anonymous-auth=false" in line
    assert "--authorization-mode=Node,RBAC" in line
    assert not [flag for flag in line if "token-auth-file" in flag]


@pytest.mark.parametrize(("address", "want"), [("127.0.0.1", "none"), ("10.200.0.1", "lease")])
def test_the_kubernetes_service_has_an_endpoint_where_others_can_reach_it(
    tmp_path: Path, address: str, want: str
) -> None:
    line = components.command(replace(specification(tmp_path), address=address), "kube-apiserver")

    assert f"--endpoint-reconciler-type={want}" in line
    assert f"--bind-address={address}" in line


def test_extra_flags_come_last(tmp_path: Path) -> None:
    assert components.command(specification(tmp_path), "kwok")[-1] == "--v=DEBUG"


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({"HOME": "/h"}, {"HOME": "/h", "GOGC": "200"}),
        ({"GOGC": "50"}, {"GOGC": "50"}),
        ({"https_proxy": "http://p", "NO_PROXY": "*"}, {"GOGC": "200"}),
    ],
)
def test_components_run_with_the_callers_settings_but_for_proxies(given: dict[str, str], want: dict[str, str]) -> None:
    assert components.variables(given) == want


def test_a_cluster_runs_what_it_has_programs_for(tmp_path: Path) -> None:
    spec = specification(tmp_path)

    assert spec.wanted() == COMPONENTS
    assert "kube-scheduler" not in replace(spec, with_scheduler=False).wanted()
    assert replace(spec, binaries={"etcd": ("e",), "kube-apiserver": ("a",)}).wanted() == ("etcd", "kube-apiserver")


def test_the_audit_log_keeps_our_kinds_whole_and_secrets_out() -> None:
    rules = audit.policy()["rules"]
    levels = {
        resource["group"]: rule["level"]
        for rule in rules
        for resource in rule.get("resources", [])
        if rule["level"] in ("Metadata", "RequestResponse") and "verbs" not in rule
    }

    assert levels["allotment.dev"] == "RequestResponse"
    assert levels[""] == "Metadata"
    assert rules[-1] == {"level": "Metadata"}


def test_stages_have_different_names() -> None:
    names = [stage["metadata"]["name"] for stage in stages()]

    assert len(set(names)) == len(names) == 7


@pytest.mark.parametrize(
    ("log", "how", "want"),
    [
        ("listen tcp 127.0.0.1:1: bind: address already in use", "exit status 1", "port"),
        ("write /x: no space left on device", "exit status 1", "disk is full"),
        ("Error: unknown flag: --nonsense", "exit status 1", "another version than 1.36"),
        ("wal: crc mismatch", "exit status 2", "data is damaged"),
        ("all is well", "signal SIGKILL", "ran out of memory"),
        ("something else", "exit status 1", "allot local logs etcd"),
    ],
)
def test_a_death_is_told_with_its_log_and_likely_cause(tmp_path: Path, log: str, how: str, want: str) -> None:
    path = tmp_path / "etcd.log"
    path.write_text(f"first\n{log}\n")

    error = diagnosis.died("etcd", path, how=how)

    assert error.message.startswith(f"etcd died ({how})")
    assert log in error.message
    assert want in error.hint
    assert error.address_in_use is (want == "port")


def test_the_telling_line_is_shown_even_when_a_long_usage_follows_it(tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_text("unknown flag: --nonsense\n" + "usage\n" * 50)

    error = diagnosis.died("etcd", path, how="exit status 2")

    assert error.message.splitlines()[1:3] == ["  unknown flag: --nonsense", "  …"]


@pytest.mark.parametrize(
    ("number", "want"), [(errno.ENOEXEC, "broken"), (errno.EACCES, "may not be executed"), (errno.ENOENT, "missing")]
)
def test_a_program_that_cannot_run_says_why(number: int, want: str) -> None:
    error = diagnosis.not_executable("etcd", "/x/etcd", OSError(number, "text"))

    assert want in error.message
    assert "allot local prune --all" in error.hint


def test_the_tail_of_a_huge_log_is_short(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {number} {'x' * 1000}" for number in range(1000)))

    last = diagnosis.tail(log, lines=3)

    assert [line.split()[1] for line in last] == ["997", "998", "999"]
    assert max(map(len, last)) <= 300
