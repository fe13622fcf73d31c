"""The audit trail: one JSON line for each thing the operator did, or could not do, and on whose behalf.

A line answers: on whose wish (the custom resource and who last changed its spec, as far as the API server's
managedFields tell), what was done to which object, and how it went. It is what `allot audit` reads. The API server's
own audit log says the same from its side; this one adds the reason.

managedFields name the *program* that wrote (kubectl, a pipeline's name), not the person: the API server tells nobody
who that was but its own audit log. Both carry the object's uid and generation, which join them.

It must never hold a Secret's content, only names.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from allotment_api.labels import OPERATOR_FIELD_MANAGER, SCHEDULER_FIELD_MANAGER
from allotment_kube.program import logs
from allotment_operator.kind import Key
from allotment_operator.metrics import Metrics

_logger = logging.getLogger("allotment.audit")
_OUR_OWN: Final = frozenset({OPERATOR_FIELD_MANAGER, SCHEDULER_FIELD_MANAGER, "kopf"})


class AuditLog:
    """Writes the trail into the log, and counts."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def record(
        self,
        key: Key,
        *,
        action: str,
        subject: str,
        outcome: str,
        message: str = "",
        cause: Mapping[str, Any] | None = None,
    ) -> None:
        """Note one act.

        Args:
            key: the custom resource on whose behalf.
            action: created, changed, deleted or invoked.
            subject: what it was done to, as ``Kind namespace/name``.
            outcome: done, or failed.
            message: why it failed.
            cause: the custom resource as it was read.
        """
        self._metrics.changed(action if outcome == "done" else f"{action}-failed", subject.partition(" ")[0])
        metadata = (cause or {}).get("metadata", {})
        logs.event(
            _logger,
            f"{action} {subject}",
            audit=True,
            kind=key.kind,
            namespace=key.namespace or None,
            name=key.name,
            uid=metadata.get("uid"),
            generation=metadata.get("generation"),
            manager=last_manager(metadata) or None,
            action=action,
            subject=subject,
            outcome=outcome,
            reason=message or None,
        )


def last_manager(metadata: Mapping[str, Any]) -> str:
    """Return the program that last wrote the spec, by managedFields; empty where they do not tell."""
    writers = [
        entry
        for entry in metadata.get("managedFields") or ()
        if "f:spec" in (entry.get("fieldsV1") or {}) and entry.get("manager") not in _OUR_OWN
    ]
    latest: Mapping[str, Any] = max(writers, key=lambda entry: str(entry.get("time", "")), default={})
    return str(latest.get("manager", ""))
