"""Who may see what over the scheduler's API: the API server decides, here it is only asked.

A caller shows a bearer token. TokenReview says whose it is; SubjectAccessReview says whether that user may read pods of
a namespace, or Tenants. So the rights are those that people have anyway: a member of a tenant sees the tenant's own
pods and shares, an administrator sees everybody's.

Answers are kept for some seconds, by a digest of the token, never by the token itself; a right that is taken away ends
after that time. A failure to ask is a refusal.

Each user has a budget of questions (`BURST`, `PER_SECOND`): answers take time from deciding, which is everybody's. So
has each address one of tokens that come to nothing: asking whose a token is costs the API server a request, and who
asks is not known before. Who shares an address with others (behind a proxy, say) shares that budget with them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from allotment_kube.models import Object
from allotment_kube.resources import Resource

TOKEN_REVIEWS: Final = Resource.custom("authentication.k8s.io/v1", "TokenReview", "tokenreviews", namespaced=False)
ACCESS_REVIEWS: Final = Resource.custom(
    "authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False
)
KEPT_SECONDS: Final = 20.0
BURST: Final = 20.0
"""Questions of one user at once."""
PER_SECOND: Final = 4.0
"""How many more come with every second."""
_MOST_KEPT: Final = 4096


class ReviewingClient(Protocol):
    """What is needed of a client."""

    async def create(self, resource: Resource[Any], body: Object, *, namespace: str = "", dry_run: bool = False) -> Any:  # noqa: ANN401 - the review, with its status
        """Create an object."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody whom the API server knows."""

    name: str
    uid: str
    groups: tuple[str, ...]
    extra: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Right:
    """A right on objects, as RBAC names it; an empty namespace means all of them."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else " of the whole cluster"
        return f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}{where}"


class TooManyTokensError(Exception):
    """Nobody is asked about a token any more, for a while."""


class Access:
    """Asks, and remembers for a while.

    Args:
        client: as the scheduler; it may create both kinds of review.
        clock: seconds that only grow.
    """

    def __init__(self, client: ReviewingClient, *, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._users: dict[bytes, tuple[float, User | None]] = {}
        self._rights: dict[tuple[User, Right], tuple[float, bool]] = {}
        self._budgets: dict[str, tuple[float, float]] = {}
        self._strangers: dict[str, tuple[float, float]] = {}

    def has_budget(self, user: User) -> bool:
        """Whether a user may ask one more question now; takes it off the budget."""
        return self._take(self._budgets, user.name)

    async def user(self, token: str, *, address: str) -> User | None:
        """Whose token this is; None where the API server does not accept it.

        Args:
            token: as shown.
            address: where it comes from.

        Raises:
            TooManyTokensError: too many from this address came to nothing.
            ApiError: the API server cannot be asked.
        """
        digest, now = hashlib.sha256(token.encode()).digest(), self._clock()
        known = self._users.get(digest)
        if known is not None and known[0] > now:
            return known[1]
        # Taken before it is asked: whoever shows many at once is not asked about in the meantime.
        if not self._take(self._strangers, address):
            raise TooManyTokensError(f"too many tokens from {address} are not this cluster's; ask again in a second")
        body = {
            "apiVersion": TOKEN_REVIEWS.api_version,
            "kind": TOKEN_REVIEWS.kind,
            "spec": {"token": token},
        }
        status = (await self._client.create(TOKEN_REVIEWS, body)).get("status") or {}
        user = _user(status.get("user") or {}) if status.get("authenticated") is True else None
        _keep(self._users, digest, (now + KEPT_SECONDS, user))
        if user is not None and address in self._strangers:
            left, at = self._strangers[address]
            self._strangers[address] = (left + 1, at)
        return user

    def _take(self, budgets: dict[str, tuple[float, float]], name: str) -> bool:
        now = self._clock()
        left, at = budgets.get(name, (BURST, now))
        left = min(BURST, left + (now - at) * PER_SECOND)
        _keep(budgets, name, (left - 1 if left >= 1 else left, now))
        return left >= 1

    async def allowed(self, user: User, right: Right) -> bool:
        """Whether a user has a right.

        Raises:
            ApiError: the API server cannot be asked.
        """
        now = self._clock()
        known = self._rights.get((user, right))
        if known is not None and known[0] > now:
            return known[1]
        attributes = {"verb": right.verb, "group": right.group, "resource": right.resource}
        if right.namespace:
            attributes["namespace"] = right.namespace
        body = {
            "apiVersion": ACCESS_REVIEWS.api_version,
            "kind": ACCESS_REVIEWS.kind,
            "spec": {
                "user": user.name,
                "uid": user.uid,
                "groups": list(user.groups),
                "extra": {key: list(values) for key, values in user.extra},
                "resourceAttributes": attributes,
            },
        }
        status = (await self._client.create(ACCESS_REVIEWS, body)).get("status") or {}
        allowed = status.get("allowed") is True and status.get("denied") is not True
        _keep(self._rights, (user, right), (now + KEPT_SECONDS, allowed))
        return allowed


def _user(found: Object) -> User:
    extra = tuple(sorted((key, tuple(values or ())) for key, values in (found.get("extra") or {}).items()))
    return User(found.get("username") or "", found.get("uid") or "", tuple(found.get("groups") or ()), extra)


def _keep(memory: dict[Any, Any], key: object, value: object) -> None:
    if len(memory) >= _MOST_KEPT and key not in memory:
        memory.clear()
    memory[key] = value
