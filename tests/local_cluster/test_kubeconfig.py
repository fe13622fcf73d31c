"""Merging into the user's kubeconfig: only our entries, and all of them gone at the end."""

import datetime as dt
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from allotment_kube.certificates import authority, issue
from allotment_local import kubeconfig
from allotment_local.errors import InvalidInputError, LocalClusterError

USERS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "preferences": {"colors": True},
    "clusters": [{"name": "work", "cluster": {"server": "https://work.test"}}],
    "users": [{"name": "work", "user": {"token": "t"}}],
    "contexts": [{"name": "work", "context": {"cluster": "work", "user": "work"}}],
    "current-context": "work",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    now = dt.datetime.now(tz=dt.UTC)
    ca = authority("ca", now=now)
    content = kubeconfig.client_kubeconfig(
        "allotment-x",
        server="https://127.0.0.1:1",
        authority=ca.certificate_pem,
        client=issue(ca, "a", now=now, client=True),
    )
    path = tmp_path / "ours"
    path.write_bytes(content)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(yaml.safe_dump(USERS))
    return path


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def test_a_merge_adds_our_context_and_makes_it_current(source: Path, target: Path) -> None:
    previous = kubeconfig.merge(source, target)

    merged = load(target)
    assert previous == "work"
    assert merged["current-context"] == "allotment-x"
    assert [context["name"] for context in merged["contexts"]] == ["work", "allotment-x"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_taking_it_out_again_gives_the_users_file_back(source: Path, target: Path) -> None:
    previous = kubeconfig.merge(source, target)
    kubeconfig.unmerge("allotment-x", target, previous=previous)

    assert load(target) == USERS


def test_merging_twice_is_merging_once(source: Path, target: Path) -> None:
    kubeconfig.merge(source, target)
    once = load(target)

    assert kubeconfig.merge(source, target) is None
    assert load(target) == once


def test_a_context_that_the_user_chose_meanwhile_stays(source: Path, target: Path) -> None:
    kubeconfig.merge(source, target)
    target.write_text(yaml.safe_dump({**load(target), "current-context": "other"}))

    kubeconfig.unmerge("allotment-x", target, previous="work")

    assert load(target)["current-context"] == "other"


def test_a_user_without_kubeconfig_gets_one(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "home" / ".kube" / "config"

    assert kubeconfig.merge(source, target) is None
    assert load(target)["current-context"] == "allotment-x"


def test_a_symbolic_link_stays_one(source: Path, target: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(target)

    kubeconfig.merge(source, link)

    assert link.is_symlink()
    assert load(target)["current-context"] == "allotment-x"


@pytest.mark.parametrize("content", ["clusters: [", "just text", "clusters: work", "users: [work]"])
def test_a_broken_kubeconfig_is_left_alone(source: Path, target: Path, content: str) -> None:
    target.write_text(content)

    with pytest.raises(InvalidInputError, match="leave out --merge"):
        kubeconfig.merge(source, target)
    assert target.read_text() == content


def test_a_lock_of_another_program_is_respected(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "_LOCK_PATIENCE", 0.0)
    lock = target.with_name("users.lock")
    lock.touch()

    with pytest.raises(LocalClusterError, match=r"users\.lock exists"):
        kubeconfig.merge(source, target)
    assert lock.exists()


@pytest.mark.parametrize(
    ("environment", "want"),
    [
        ({"KUBECONFIG": "/a/b:/c/d", "HOME": "/h"}, "/a/b"),
        ({"KUBECONFIG": "", "HOME": "/h"}, "/h/.kube/config"),
        ({"HOME": "/h"}, "/h/.kube/config"),
    ],
)
def test_the_users_file_is_the_one_kubectl_writes(environment: dict[str, str], want: str) -> None:
    assert kubeconfig.users_kubeconfig(environment) == Path(want)
