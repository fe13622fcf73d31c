"""Budgets pace the evictions of a tenant's pods; none forbids them for ever."""

from collections.abc import Callable
from typing import Any

import pytest

from builders.api_server import Actor
from builders.tenant_objects import expect, meta

Member = Callable[[str, str], Actor]


def budget(namespace: str, name: str = "budget", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(name, namespace),
        "spec": {"selector": {"matchLabels": {"app": "x"}}, **spec},
    }


@pytest.mark.parametrize(
    ("want", "spec"),
    [
        pytest.param("", {"maxUnavailable": 1}, id="one at a time"),
        pytest.param("", {"maxUnavailable": "10%"}, id="a part at a time"),
        pytest.param("", {"maxUnavailable": "100%"}, id="all at once"),
        pytest.param("", {"minAvailable": 2}, id="a number that stays"),
        pytest.param("", {"minAvailable": 100}, id="a number is no percentage"),
        pytest.param("", {"minAvailable": "99%"}, id="almost all"),
        pytest.param("", {"minAvailable": 0}, id="none need stay"),
        pytest.param("", {}, id="neither"),
        pytest.param("maxUnavailable 0 forbids every eviction", {"maxUnavailable": 0}, id="none may go"),
        pytest.param("maxUnavailable 00% forbids every eviction", {"maxUnavailable": "00%"}, id="no part may go"),
        pytest.param("minAvailable 100% forbids every eviction", {"minAvailable": "100%"}, id="all must stay"),
        pytest.param("minAvailable 0100% forbids every eviction", {"minAvailable": "0100%"}, id="all, spelt otherwise"),
    ],
)
def test_what_a_budget_may_say(want: str, spec: dict[str, Any], unbounded: str, member: Member) -> None:
    answer = member(unbounded, "developer").create(budget(unbounded, **spec), dry_run=True)

    assert want in answer.message
    assert answer.accepted == (not want)


def test_a_budget_cannot_be_closed_later(unbounded: str, member: Member) -> None:
    developer, manifest = member(unbounded, "developer"), budget(unbounded, "later", maxUnavailable=1)
    expect(developer, manifest)

    closed = developer.patch(manifest, {"spec": {"maxUnavailable": 0}}, dry_run=True)
    labelled = developer.patch(manifest, {"metadata": {"labels": {"app": "y"}}}, dry_run=True)

    assert "let at least one pod go at a time" in closed.message
    assert labelled.accepted, labelled.message


def test_budgets_outside_tenants_namespaces_are_left_alone(elsewhere: str, admin: Actor) -> None:
    answer = admin.create(budget(elsewhere, maxUnavailable=0), dry_run=True)

    assert answer.accepted, answer.message
