"""PodGroups, ours and those of Kubernetes itself: which pods start together, and with what priority.

A group is told again when its priority class changes, whichever of the two comes first.
"""

from typing import Any

from allotment_api.pod_group import PodGroup
from allotment_kube.models import Object
from allotment_kube.workloads import PriorityClass, SchedulingPodGroup
from allotment_scheduler.core.objects import events as ev
from allotment_scheduler.shell.teller import Key, Teller
from allotment_scheduler.translation import cluster
from allotment_scheduler.translation.pods import scheduling_group_name


class Groups:
    """Gangs by PodGroups."""

    def __init__(self, teller: Teller) -> None:
        self.in_force: dict[Key, PodGroup] = {}
        """Every PodGroup of ours, in its last good version."""
        self._teller = teller
        self._priorities: dict[str, int] = {}

    def group(self, key: Key, manifest: Object) -> None:
        """A PodGroup exists and looks like this."""
        group = self._teller.parsed("PodGroup", key, manifest, PodGroup.parse)
        if group is None:
            return
        self.in_force[key] = group
        self._teller.apply(ev.GroupSeen(self._group_spec(group)))

    def group_gone(self, key: Key) -> None:
        """A PodGroup is gone."""
        self.in_force.pop(key, None)
        self._teller.forget("PodGroup", key)
        self._teller.apply(ev.GroupGone(key))

    def scheduling_group(self, key: Key, found: SchedulingPodGroup | None) -> None:
        """A PodGroup of scheduling.k8s.io exists, or exists no longer."""
        if found is None:
            self._teller.apply(ev.GroupGone((key[0], scheduling_group_name(key[1]))))
        else:
            self._teller.apply(ev.GroupSeen(cluster.scheduling_group_spec(found)))

    def priority_class(self, key: Key, found: PriorityClass | None) -> None:
        """A priority class exists, or exists no longer."""
        if found is None:
            self._priorities.pop(key[1], None)
        else:
            self._priorities[key[1]] = found.value
        for group in self.in_force.values():
            if group.spec.priority_class_name == key[1]:
                self._teller.apply(ev.GroupSeen(self._group_spec(group)))

    def _group_spec(self, group: PodGroup) -> Any:  # noqa: ANN401 - GroupSpec, by way of translation
        name = group.spec.priority_class_name
        return cluster.group_spec(group, priority=self._priorities.get(name) if name else None)
