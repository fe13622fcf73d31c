"""One asynchronous Kubernetes client for both programs.

Start with `Client.connect()`; name kinds by the constants of `resources`; keep a local picture with `Reflector`; elect
a leader with `Lease`. Errors (`errors`) are classed by what to do next.
"""

from .client import Client, Guard, Page
from .configuration import Configuration, Impersonation, load_configuration
from .errors import (
    AlreadyExistsError,
    ApiError,
    ConfigurationError,
    ConflictError,
    DeniedError,
    DisruptionBudgetError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubernetesError,
    LeadershipLostError,
    NotFoundError,
    OutcomeUnknownError,
    OwnershipConflictError,
    ProtocolError,
    RejectedError,
    RetryError,
    ThrottledError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
)
from .exec import ExecResult, ExecTimeoutError, execute
from .lease import Lease, LeaseSettings, unique_identity
from .models import Object
from .patches import JsonPatch, MergePatch, StrategicMergePatch
from .reflector import Added, Deleted, Event, Modified, Reflector, ReflectorSettings, Synced
from .resources import Resource
from .retries import Backoff, RetryPolicy
from .transport import Observer, Transport

__all__ = [
    "Added",
    "AlreadyExistsError",
    "ApiError",
    "Backoff",
    "Client",
    "Configuration",
    "ConfigurationError",
    "ConflictError",
    "Deleted",
    "DeniedError",
    "DisruptionBudgetError",
    "Event",
    "ExecResult",
    "ExecTimeoutError",
    "ForbiddenError",
    "GoneError",
    "Guard",
    "Impersonation",
    "InvalidError",
    "JsonPatch",
    "KubernetesError",
    "LeadershipLostError",
    "Lease",
    "LeaseSettings",
    "MergePatch",
    "Modified",
    "NotFoundError",
    "Object",
    "Observer",
    "OutcomeUnknownError",
    "OwnershipConflictError",
    "Page",
    "ProtocolError",
    "Reflector",
    "ReflectorSettings",
    "RejectedError",
    "Resource",
    "RetryError",
    "RetryPolicy",
    "StrategicMergePatch",
    "Synced",
    "ThrottledError",
    "Transport",
    "UnauthorizedError",
    "UnavailableError",
    "UnreachableError",
    "execute",
    "load_configuration",
    "unique_identity",
]
