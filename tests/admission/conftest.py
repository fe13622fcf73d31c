"""The chart on the test cluster, and tenants' namespaces to try its policies in."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from builders.api_server import Actor, ApiServer
from builders.helm_chart import NAMESPACE, Release
from builders.tenant_objects import await_default_service_account, expect, make_tenant_namespace, namespace_object

STRICT = {
    "allowedRegistries": ["registry.bank/retail", "mirror.bank/"],
    "maxPriority": 1000,
    "allowedTolerationKeys": ["nvidia.com/gpu"],
    "maxRuntimeSeconds": 3600,
}


@pytest.fixture(scope="module", autouse=True)
def release(only_release: Release) -> None:
    """The release is there and enforced before anything else of a module."""
    only_release.ensure()


@pytest.fixture(scope="module")
def new_namespace(api: ApiServer) -> Iterator[Callable[..., str]]:
    """Makes tenants' namespaces, and takes them away when the module is done."""
    made: list[str] = []

    def make(name: str, **policy: Any) -> str:
        made.append(name)
        make_tenant_namespace(api, name, **policy)
        return name

    yield make
    for name in made:
        api.admin().delete(namespace_object(name))


@pytest.fixture(scope="module")
def unbounded(new_namespace: Callable[..., str], request: pytest.FixtureRequest) -> str:
    """Namespace of a tenant whose TenantPolicy bounds nothing."""
    return new_namespace(_unique(request, "unbounded"))


@pytest.fixture(scope="module")
def strict(new_namespace: Callable[..., str], request: pytest.FixtureRequest) -> str:
    """Namespace of a tenant whose TenantPolicy bounds everything."""
    return new_namespace(_unique(request, "strict"), **STRICT)


@pytest.fixture(scope="module")
def elsewhere(admin: Actor, request: pytest.FixtureRequest) -> Iterator[str]:
    """Namespace that belongs to no tenant."""
    name = _unique(request, "elsewhere")
    expect(admin, namespace_object(name))
    await_default_service_account(admin, name)
    yield name
    admin.delete(namespace_object(name))


@pytest.fixture(scope="session")
def operator(api: ApiServer) -> Actor:
    return api.service_account(NAMESPACE, "allotment-operator")


@pytest.fixture(scope="session")
def scheduler(api: ApiServer) -> Actor:
    return api.service_account(NAMESPACE, "allotment-scheduler")


@pytest.fixture(scope="session")
def member(api: ApiServer) -> Callable[[str, str], Actor]:
    """A member of a namespace's tenant in one of the four roles."""
    return lambda namespace, role: api.user(f"{role}@bank", [f"{namespace}-{role}"])


@pytest.fixture
def unique() -> str:
    """A name that nothing else has."""
    return f"n{uuid.uuid4().hex[:10]}"


def _unique(request: pytest.FixtureRequest, word: str) -> str:
    return f"{request.module.__name__.rpartition('.')[2].removeprefix('test_').replace('_', '-')}-{word}"
