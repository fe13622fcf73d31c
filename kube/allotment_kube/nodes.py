"""Nodes and namespaces: the ground and its plots, as a scheduler reads them."""

import msgspec

from .models import Condition, Model, Resourced


class Taint(Model, frozen=True):
    """Keeps pods away that do not tolerate it: NoSchedule, PreferNoSchedule or NoExecute."""

    key: str
    effect: str
    value: str = ""


class NodeSpec(Model, frozen=True):
    """What an administrator or the node controller says about a node."""

    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class ContainerImage(Model, frozen=True):
    """An image that is on the node already."""

    names: tuple[str, ...] | None = ()
    size_bytes: int = 0


class NodeStatus(Model, frozen=True):
    """What the node reports; `allocatable` is what pods may use, resource name to quantity.

    `declared_features` are those of its kubelet that some pods need (KEP-5328).
    """

    capacity: dict[str, str] = msgspec.field(default_factory=dict)
    allocatable: dict[str, str] = msgspec.field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    images: tuple[ContainerImage, ...] | None = ()
    declared_features: tuple[str, ...] | None = ()


class Node(Resourced, frozen=True):
    """core/v1 Node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class NamespaceStatus(Model, frozen=True):
    """Active or Terminating."""

    phase: str = ""


class Namespace(Resourced, frozen=True):
    """core/v1 Namespace."""

    status: NamespaceStatus = NamespaceStatus()
