"""What the API server's audit log records.

Who changed what of Allotment's own kinds is recorded whole, request and response: tenants, shares and services are what
an auditor asks about. Secrets, tokens and the like never have their contents recorded. The control plane's own reads,
heartbeats and events would drown everything else and are left out. The rules are matched in order; the first one wins
(audit.k8s.io/v1 Policy).
"""

from typing import Any

from allotment_local.credentials import KWOK_USER

_SYSTEM_USERS = [
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    KWOK_USER,
]


def policy() -> dict[str, Any]:
    """The audit policy, as an object to be written as YAML."""
    reads = ["get", "list", "watch"]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [
            {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/metrics"]},
            {"level": "None", "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/openapi/*"]},
            {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
            {
                "level": "None",
                "resources": [
                    {"group": "", "resources": ["events"]},
                    {"group": "events.k8s.io", "resources": ["events"]},
                ],
            },
            {"level": "None", "users": _SYSTEM_USERS, "verbs": reads},
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"], "verbs": reads},
            # Simulated kubelets report what is simulated; it is the state, not anybody's doing.
            {"level": "None", "users": [KWOK_USER]},
            {
                "level": "Metadata",
                "resources": [
                    {"group": "", "resources": ["secrets", "configmaps", "serviceaccounts/token"]},
                    {"group": "authentication.k8s.io"},
                    {"group": "authorization.k8s.io"},
                    {"group": "certificates.k8s.io"},
                ],
            },
            {"level": "Metadata", "verbs": reads, "resources": [{"group": "allotment.dev"}]},
            {"level": "RequestResponse", "resources": [{"group": "allotment.dev"}]},
            {"level": "Metadata"},
        ],
    }
