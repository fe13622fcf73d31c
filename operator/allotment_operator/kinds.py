"""Which kinds there are: the tenant's, and those of every package under `services`.

A service takes part by having a module ``kinds`` with a function ``kinds(surroundings)`` that returns its kinds. The
engine then serves them; nothing else has to be told.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from allotment_operator import services
from allotment_operator.kind import Kind
from allotment_operator.surroundings import Surroundings


def service_kinds(surroundings: Surroundings) -> dict[str, Kind[Any]]:
    """Return every service's kinds by name, each made with the surroundings.

    Raises:
        ValueError: two packages claim the same kind.
    """
    return by_name(kind for module in service_modules() for kind in module.kinds(surroundings))


def service_modules() -> list[ModuleType]:
    """Return the module ``kinds`` of every service package that has one."""
    names = [f"{services.__name__}.{found.name}" for found in pkgutil.iter_modules(services.__path__) if found.ispkg]
    return [importlib.import_module(f"{name}.kinds") for name in names if importlib.util.find_spec(f"{name}.kinds")]


def by_name(kinds: Iterable[Kind[Any]]) -> dict[str, Kind[Any]]:
    """Return kinds by the name of their model.

    Raises:
        ValueError: two of them have the same.
    """
    found: dict[str, Kind[Any]] = {}
    for kind in kinds:
        name = kind.model.definition.kind
        if name in found:
            raise ValueError(f"{name} is served twice, by {type(found[name]).__name__} and {type(kind).__name__}")
        found[name] = kind
    return found
